// Package channel keeps, for each Channel, a topic in the store of events, with an address at the
// ingress, and deletes it before the Channel goes.
package channel
