// Package publish is the shell between what people declared and what the data
// plane runs: it watches Routes, Revisions, pods,
// DomainMappings and the metadata of Secrets, translates each one that
// changed (proxy/translate), encodes it (proxy/envoy) and puts it into the discovery
// server (proxy/xds). Its work for a change is the change: one key at a time, and
// nothing is rebuilt.
//
// It also answers the questions that only the side that knows both can answer:
// what the gateways think of a Route ([Publisher.RouteState], for the route
// controller), and whether everyone has heard that a pod is draining
// ([Publisher.Drain], [Publisher.AwaitDrained], for the autoscaler). It forgets
// nothing on a bad object: the last good configuration goes on serving.
//
// A DomainMapping is published with the rules of the Route that it leads to, and again when
// those change (mapping.go). Certificates are read from the Secrets in use, one by one, and given out by host (secret.go).
// A host that several Routes or DomainMappings claim is the oldest one's; the others serve what else they
// have and say so, and the next one has it in the same response in which the oldest lets go (hosts.go).
// Configuration that nobody used for a while is taken back from the gateways that loaded it (idle.go).
package publish
