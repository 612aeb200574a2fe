// Package trigger keeps, for each Trigger, a place in the topic of its Broker, and finds out
// where its events go. A place is made once the Broker has a topic, the filter compiles and the
// subscriber has an address for the first time; from then on it stays until the Trigger or the
// Broker goes, whatever is changed: filters and addresses are no part of it.
package trigger
