// Package publish is the shell between what people declared and what the data
// plane runs: it watches Routes, Revisions and pods, translates each one that
// changed (proxy/translate), encodes it (proxy/envoy) and puts it into the discovery
// server (proxy/xds). Its work for a change is the change: one key at a time, and
// nothing is rebuilt.
//
// It also answers the questions that only the side that knows both can answer:
// what the gateways think of a Route ([Publisher.RouteState], for the route
// controller), and whether everyone has heard that a pod is draining
// ([Publisher.Drain], [Publisher.AwaitDrained], for the autoscaler). It forgets
// nothing on a bad object: the last good configuration goes on serving.
package publish
