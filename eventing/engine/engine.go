package engine

import (
	"context"
	"errors"
	"time"

	"ebb.dev/ebb/eventing/event"
)

// What a caller decides on. Any other error means that the engine could not be asked:
// what was asked for may or may not have happened, and asking again is safe.
var (
	ErrNoTopic        = errors.New("there is no such topic")
	ErrNoSubscription = errors.New("there is no such subscription")
	ErrFull           = errors.New("the topic is full")                        // 429: comes back when subscribers have caught up
	ErrTooLarge       = errors.New("the event is larger than the topic takes") // 413
	ErrUnavailable    = errors.New("the store of events cannot be reached")    // 503
)

// Engine stores events. Its methods may be called from several goroutines and processes.
type Engine interface {
	// PutTopic makes a topic or gives one that is there these limits. It never drops events to do so.
	PutTopic(ctx context.Context, t Topic) error
	// DeleteTopic deletes a topic with its events and subscriptions; one that is not there is no error.
	DeleteTopic(ctx context.Context, name string) error

	// PutSubscription makes a subscription or changes one; its place stays. A new one gets what is published from then on.
	PutSubscription(ctx context.Context, s Subscription) error
	// DeleteSubscription forgets a subscription; one that is not there is no error.
	DeleteSubscription(ctx context.Context, topic, name string) error

	// Publish returns when the event is stored as safely as the topic asks for. An event
	// with the source and id of one published within the topic's Duplicates window is
	// stored once: Stored.Duplicate says so, and that is a success.
	Publish(ctx context.Context, topic string, e *event.Event) (Stored, error)

	// Consume takes events for one subscription until the Consumer is closed. Several
	// consumers of one subscription, in any process, share its events; of an ordered one
	// only one of them gets any, and another takes over within seconds when that one is gone.
	Consume(ctx context.Context, topic, subscription string) (Consumer, error)

	// Backlog is what a subscription has not had acknowledged.
	Backlog(ctx context.Context, topic, subscription string) (Backlog, error)

	// Tail reads a topic without being a subscription: every event from a place on.
	Tail(ctx context.Context, topic string, from From) (Tail, error)

	// Ready is nil when the engine can be asked, and otherwise says what is wrong.
	Ready(ctx context.Context) error
	// Close lets go of the connection; consumers and tails end.
	Close() error
}

// Topic names a topic and says what it keeps. Zero limits mean the engine's own.
type Topic struct {
	Name          string
	MaxBytes      int64         // of all events stored
	MaxEvents     int64         // stored
	MaxEventBytes int32         // of one event with its attributes
	MaxAge        time.Duration // 0: until every subscription has it, or a limit is reached
	Duplicates    time.Duration // window in which source and id are looked up
	Replicas      int           // copies on servers; 1 when not given
	KeepAll       bool          // keep events that every subscription has (for dead letters); otherwise they may go
}

// Subscription is a place in a topic.
type Subscription struct {
	Topic, Name string
	Ordered     bool          // see Consume
	AckWait     time.Duration // without Ack, Nak or Working for so long, an event is given out again
	MaxInFlight int           // given out and not acknowledged, over all consumers
}

// Stored says where an event went.
type Stored struct {
	Sequence  uint64 // place in the topic, from 1
	Duplicate bool
}

// Consumer gives out the events of a subscription.
type Consumer interface {
	// Next blocks until there is an event, ctx ends, or the consumer is closed (ErrClosed).
	// Events come in the order of the topic, but those that are given out again.
	Next(ctx context.Context) (Delivery, error)
	// SetInFlight bounds how many events this consumer asks for in advance and has not acknowledged.
	SetInFlight(n int)
	// Close stops asking; what was given out can still be acknowledged.
	Close()
}

// ErrClosed ends Next.
var ErrClosed = errors.New("the consumer is closed")

// Delivery is one event given out. Exactly one of Ack and Nak ends it; not thread-safe.
type Delivery interface {
	Event() *event.Event
	Sequence() uint64 // in the topic
	Attempt() int     // from 1; counts every time it was given out
	Published() time.Time
	// Ack ends it for good; it returns when the engine has it, or with an error, and then the event may come again.
	Ack(ctx context.Context) error
	// Nak has it given out again after a while, by any consumer.
	Nak(ctx context.Context, after time.Duration) error
	// Working starts AckWait anew.
	Working(ctx context.Context) error
}

// Backlog is what is still to be done for a subscription.
type Backlog struct {
	Waiting  uint64 // stored and not given out, filtered or not
	InFlight uint64 // given out and not acknowledged
}

// From is where a Tail begins: at a sequence, at a time, or (zero) with what comes next.
type From struct {
	Sequence uint64
	Time     time.Time
}

// Tail reads a topic.
type Tail interface {
	// Next blocks until there is an event or ctx ends.
	Next(ctx context.Context) (*event.Event, Stored, time.Time, error)
	Close()
}
