// Package feed tells the ingress and the dispatcher of this process what to serve: it watches
// Brokers, Channels, Triggers and Subscriptions and hands on what eventing/translate makes of
// them. It runs in every replica, whether it leads or not, and writes nothing to the API server.
package feed
