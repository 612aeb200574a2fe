package plan

import (
	"time"

	"ebb.dev/ebb/eventing/engine"
)

// Kind is what users call a topic.
type Kind string

// The kinds of topics.
const (
	Broker  Kind = "Broker"
	Channel Kind = "Channel"
)

// Address is where a topic is reached: the path of the ingress, see Path.
type Address struct {
	Kind            Kind
	Namespace, Name string
}

// Topic is one Broker or Channel.
type Topic struct {
	Address
	UID      string
	Engine   engine.Topic // what is published into
	Accepts  bool         // false: the ingress answers 503 with Why; a Topic that was not Set is 404
	Why      string       // one sentence that names the object
	HopLimit int          // knativebrokerttl of an event that comes without one; from 1
}

// Subscription is one Trigger, or one Subscription of a Channel.
type Subscription struct {
	Topic, Name string    // in the engine; the engine has both before a dispatcher is told
	Owner       Reference // for logs, metrics and the extensions of a dead letter

	// Filter holds when all of them match; none matches every event. One that does not
	// compile matches no event: the events are acknowledged and go by.
	Filter []Filter

	Subscriber Target

	// A reply is published into ReplyTopic, or else sent to Reply; if neither is given, an
	// event in an answer is an error of the subscriber's that nobody can help: it is counted and dropped.
	ReplyTopic string
	Reply      Target

	// What cannot be delivered is sent to DeadLetter, or else, and when that fails too, kept
	// in the engine's topic DeadLetters(Topic).
	DeadLetter Target

	Delivery Delivery

	// Ordered: one delivery at a time for each partition key, the next one after the last has
	// been acknowledged or is a dead letter. An event's partition key is the attribute PartitionKey,
	// where it has none its subject, and where it has none either, "": a partition of its own.
	Ordered      bool
	PartitionKey string // name of an attribute; never ""

	Parallelism int // deliveries in flight over all partition keys, from 1
}

// Reference is an object of the API.
type Reference struct{ Kind, Namespace, Name, UID string }

// Target is something that takes events. The zero Target is none.
type Target struct {
	URL      string // absolute, http or https
	CACerts  string // PEM; "": those of the system
	Audience string // of the token to send; "": none
}

// Backoff is how the waits between attempts grow.
type Backoff string

// The policies.
const (
	Exponential Backoff = "exponential" // Delay x 2^n before retry n, from 0
	Linear      Backoff = "linear"      // Delay x n before retry n, from 1
)

// Delivery is when an event is tried again.
type Delivery struct {
	Retry         int // attempts after the first; 0: none
	Backoff       Backoff
	Delay         time.Duration
	Timeout       time.Duration // of one attempt, above 0
	RetryAfterMax time.Duration // longest Retry-After that is followed, a longer one is cut; 0: none is followed
	Structured    bool          // send in structured mode; otherwise in binary mode
}
