// Package plan is the data plane's own model of eventing: the topics that the ingress
// takes events for, and the subscriptions that the dispatcher serves. It is free of
// Kubernetes, as proxy/ir is for the proxy.
//
// eventing/translate makes it from the objects and controllers/feed hands it over, in every replica; the ingress has Set(Topic)
// and Remove(Address), the dispatcher Set(Subscription) and Remove(Subscription.Name).
// A value that was handed over is not changed any more; Set with an equal one does nothing.
package plan
