// Package deadletter is the dead letters that Ebb keeps itself: those of subscriptions without a sink, or with one that does not take
// them. They are in the engine's topic plan.DeadLetters of the Broker's or Channel's, until they are too old for it.
//
// The dispatcher writes them ([Address]). [List] reads them, and [Redeliver] has one delivered again, to the subscriber that it could
// not be delivered to and to nobody else: it is published into the Broker's own topic with the name of the one subscription
// ([For]), so that it is stored, tried again, ordered and, if need be, a dead letter again as any other event. The
// letter stays where it is; to redeliver it twice at once is to redeliver it once.
package deadletter
