// Package activator is the buffering proxy: it takes the requests of revisions
// that have no pod to answer them, or that limit what a pod serves at once, holds
// them until a pod has room, and forwards them.
//
// In come requests with the revision's cluster name in a header
// ([ebb.dev/ebb/proxy/ir.RevisionHeader]), set by the gateway, and from the
// control plane what there is to know of a revision (link.Revision, over delta
// ADS, asked for when the first request comes). Out go the requests to pods,
// probes of pods that Kubernetes does not call Ready yet, and load reports: how
// many requests of which revision are here, told at once when a revision needs
// its first pod. On an address of its own it answers the preStop hooks of pods
// that Kubernetes ends, when nothing is on its way to them any more.
//
// The parts, a file each: queue (who waits, who is next: pure), load (the
// integral of requests over time: pure), revision (the two under one lock, with
// pods and their probes), shares (pods that change hands), table (revisions by name), forward (HTTP),
// control, membership and report (the three streams to the control plane), drain, health.
//
// An activator decides nothing: which pods are its own, how many requests they
// take and when they are drained is the control plane's to say. While the control
// plane is away it goes on with what it knows.
//
// Only cmd/ebb starts it.
package activator
