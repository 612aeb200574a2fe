// Package engine is what Ebb wants of a system that stores events: topics, which keep
// events in order and bounded, and subscriptions, each with a place of its own in its
// topic. A Broker or a Channel is a topic, a Trigger or a Subscription a subscription.
// Filters, retries, replies and dead letters are above it, in eventing/dispatcher.
//
// An implementation passes the tests of engine/enginetest; the one there is is
// eventing/jetstream.
package engine
