// Package eventfaults is what becomes of events while the parts of eventing die, hang and run out of room: real
// processes (`ebb nats`, two `ebb eventing` on a real kube-apiserver, a subscriber) under steady load, one fault at a
// time, first each once and then by chance.
//
//	go test ./test/eventfaults -v -events 1000000 -rate 0 -random 40 -seed 7
//
// prints the table of docs/faults.md.
package eventfaults
