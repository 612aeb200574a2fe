// Package intake receives load reports: it is the LRS service (envoy.service.load_stats.v3) that gateways and
// activators stream to.
//
// In come reports; out go [Observation] values to a [Sink], one batch a report, and answers to what is in flight
// where ([Server.InFlight], [Server.AwaitIdle]). proxy/publish says which clusters gateways shall report
// ([Server.Track]) and hears which are in use; the autoscaler is the sink. What is idle costs nothing but its bytes on the
// wire: only clusters with load are remembered.
package intake
