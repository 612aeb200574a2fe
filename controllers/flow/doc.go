// Package flow keeps the Channels and Subscriptions that a Sequence or a Parallel is made of: it
// reconciles the object: applies the parts that are wanted, deletes those that are not wanted any more, and says how they
// are. What they are is decided by controllers/sequence and controllers/parallel.
package flow
