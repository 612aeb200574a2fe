// Package coldstart keeps, for each revision, where the time of its last start from zero went:
// from the first request that found no pod to that request on its way to one.
//
// In come moments as the control plane learns of them: a request waits (an activator's
// report), the scale was written, what the pods say of themselves, and how long the request
// waited in the end (the activator's next report). Out go a [Start] for `ebb explain` and
// histograms by step. It is pure but for its lock, and bounded: one start for each of the
// revisions that started last.
//
// The autoscaler fills it, cmd/ebb reads it.
package coldstart
