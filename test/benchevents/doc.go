// Command benchevents measures the way of an event beside bare JetStream, in one run: `make
// bench-events`. The NATS server is `ebb nats`, a process of its own. Ingress and dispatcher
// are in this process, as they are in `ebb eventing`, with the senders and the subscriber, which
// speak HTTP by hand over real connections so that they cost little beside what is measured.
//
// It writes out/bench-events.json with flat keys:
//
//	throughput.bare, throughput.ebb   events/s, published and consumed at once
//	throughput.ratio                  ebb / bare, the median of the rounds'
//	throughput.http                   one hop of HTTP with nothing between, by the same senders and subscriber
//	throughput.floor_ratio            ebb over what two such hops and bare JetStream one after the other give
//	throughput.batch, .batch_ratio    as ebb, sent in batches of 20 and delivered one by one
//	processor_us.bare, .http, .ebb, .batch, .ratio  microseconds of processor for each event, the server's and
//	                                  both ends in it: what the ratio is without other load
//	latency_ms.p50, latency_ms.p99    from the request's first byte to the subscriber, at a steady rate
//	lost.total, duplicates.total      while the NATS server is killed with SIGKILL
package main
