// Package inspect is what a person asks of the store of events: the events of a Broker or Channel as they come, its dead
// letters, and that these are delivered again.
//
// [New] answers over HTTP, from an engine. It asks nobody who they are: whoever reaches it reads every event, so it
// listens on a loopback address, which `ebb events` reaches on the same machine, or by a port-forward that the API server allows.
// [Client] is the other end.
package inspect
