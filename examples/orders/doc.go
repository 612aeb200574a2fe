// Command orders is a function on events, to try Ebb's eventing with: it answers an event of type order.created with one of
// type order.priced, which the Broker takes and gives to whoever has a Trigger for it.
package main
