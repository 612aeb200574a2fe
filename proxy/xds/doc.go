// Package xds is the delta ADS server: what changed goes to whom it concerns,
// in an order that never breaks traffic, and it is known who has acknowledged what.
//
// What lives here: the set of current resources (the world), one state machine
// per connected stream, and the gRPC shell around them. What comes in:
// resources by Server.Update, each with a type URL, a name, an encoded body, a
// version that is a hash of the body, the keys it needs, and an opaque owner;
// and DeltaDiscoveryRequests from Envoys and activators. What goes out:
// DeltaDiscoveryResponses, and for the publisher: State by owner, AwaitAcked,
// OnState, OnSubscribe. The package knows nothing of Kubernetes and of the
// types it carries no more than the table in kind.go. proxy/publish calls it.
//
// # Order
//
// Rule 6 of the design, per stream: a resource is sent only when what it needs
// is usable there, and is withdrawn only when no version that the client has
// or may get needs it. A version "holds" its needs from the moment it is wanted
// until a later version is acknowledged; so replacing cluster c1 by c2 in a
// route becomes, without any plan being made: add c2 with its endpoints, wait,
// change the route, wait, remove c1.
//
// A cluster counts as usable when an endpoint response sent after it was
// acknowledged: Envoy holds back the acknowledgement of clusters until all
// of them are warm, so waiting for that one first would be a deadlock. For the
// same reason the endpoints are sent again with every change of their cluster.
//
// # Lazy resources
//
// On a wildcard subscription a Lazy resource is sent only while something
// wanted on that stream needs it. With scopes on demand, Envoy's subscription
// to a route configuration is what makes its clusters wanted, and the answer
// goes out when they are usable.
//
// # Taking back
//
// Envoy forgets what a scope led to only with the scope, and a request that waits for
// the routes of a scope that goes waits for ever (Envoy 1.40). So TakeBack works per stream
// and only where the client has certainly loaded the routes: there the scope is
// replaced by the next generation of itself, under the name "scope~n", with the same version. The
// generation belongs to the stream: a client that reconnects lists the names that it has, they count
// as the scope, and nothing is sent. Measured with two gateways, 48 connections and
// uploads among the requests: 20,000 times taken back under 267,000 requests, none failed, none hung.
//
// What Envoy leaves open is the removal of a scope that it does not have loaded: a Route
// that is deleted, or a host that goes to another Route. If a first request reaches the
// gateway while the removal is on the wire, that request hangs until the listener's stream idle
// timeout; if it came earlier, the removal waits for it.
//
// # Concurrency
//
// One mutex guards world and stream states; it is never held across I/O or a
// callback. Each stream has a goroutine that takes one bounded response at a time
// from its state machine, so a slow client gets fewer, newer responses and
// delays nobody. Update costs the resources given times the streams that have
// to do with them, by an index from resources to streams.
package xds
