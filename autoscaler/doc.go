// Package autoscaler gives every revision the pods its load asks for, from zero and back, and never cuts a request
// on the way down.
//
// In come load observations (autoscaler/intake), events to be delivered (autoscaler/backlog), revisions with their
// pods and settings (the [Reconciler], from the cache), and time. Out go replicas through /scale of the revision's Deployment, deletion costs of
// pods, and which pods drain ([Drainer], implemented by proxy/publish). The pure parts are below: autoscaler/window
// (averages) and autoscaler/decision (how many and why). cmd/ebb wires it up; `ebb explain` asks [Scaler.Explain].
//
// Nothing polls: an observation re-decides its revision, one timer wakes those whose decision changes by itself. A revision without
// load costs its entry in a map.
package autoscaler
