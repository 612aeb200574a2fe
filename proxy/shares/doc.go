// Package shares decides which activator sends to which pod of a Revision that limits
// what a pod serves at once, so that the limit is exact with any number of activators.
//
// What lives here: the [Ledger] of one Revision, pure. In come its pods, the activators
// that are to have some, and what activators say that they still have on pods that they
// gave up; out go who has each pod, and who has to give one up.
//
// A pod that changes hands has a new turn, a number that only rises. From then on the
// activator that had it is asked to give it up, and until it has answered all of the
// pod's places count as taken; after that, as many as it still has there. So the next one may begin
// at once and the sum is never above the limit. What an activator had that died is free when it is
// certain that its connections are closed: the caller says when ([Ledger.Gone]).
//
// With fewer pods than activators that hold requests a pod goes round: an activator
// that waits without a pod gets one that another has had for a while.
//
// proxy/publish calls it, under its own lock.
package shares
