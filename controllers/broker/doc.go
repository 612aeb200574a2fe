// Package broker keeps, for each Broker, a topic in the store of events, with an address at the
// ingress, and deletes it before the Broker goes.
package broker
