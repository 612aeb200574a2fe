// Package jetstream is the engine on NATS JetStream, version 2.11 or newer.
//
// A topic is a stream with one subject. Its retention is by limits, and a full one refuses
// what is new: an event that was acknowledged is never dropped for another one. Events that
// every subscription has acknowledged are taken away by the engines that publish (trim.go).
// A subscription is a durable pull consumer; an ordered one has a pinned client. An event is
// its data, with the attributes as headers (encode.go).
//
// Names of topics and subscriptions are any text; what NATS allows in names is known here alone.
package jetstream
