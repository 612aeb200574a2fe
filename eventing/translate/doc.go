// Package translate makes the data plane's plan of the objects of eventing: topics of
// Brokers and Channels, subscriptions of Triggers and Subscriptions. It is pure: objects and
// settings in, values of eventing/plan and eventing/engine out.
//
// What is resolved (addresses, the topic that a place is in) is read from the status, where the
// leader has written it: what was good goes on being served when a spec is not.
package translate
