// Package dispatcher brings events to subscribers. [Dispatcher.Set] gives it a plan.Subscription, [Dispatcher.Remove] takes one
// away; both may be called at any time, in every replica. Each subscription is a lane: one consumer of the engine,
// one goroutine while nothing comes, and nothing shared with other lanes that one of them could hold up.
//
// An event is acknowledged to the engine when it is somewhere else: the subscriber has answered 2xx, its reply is stored, or the
// dead letter is delivered or stored. Until then the engine has it, so a dispatcher that is killed loses nothing; what
// it was about to do happens again elsewhere (at least once).
//
// How fast a lane goes follows the subscriber ([window]): one delivery until the first answer, so that what is at zero is
// woken once, then twice as many with each round, and half when the subscriber has no room.
package dispatcher
