package settings

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Eventing is config-ebb-eventing: how events are stored and delivered.
type Eventing struct {
	// Replicas is the number of servers of the store that have each event.
	Replicas int64
	// MaxBytes and MaxEvents bound what is stored for one Broker or Channel, MaxEvents 0: not by number.
	// When it is full, publishers are told to wait.
	MaxBytes, MaxEvents int64
	// MaxAge: an event that is older is dropped, delivered or not; 0 keeps it until it is delivered.
	MaxAge time.Duration
	// MaxEventBytes of one event with its attributes.
	MaxEventBytes int64
	// DuplicatesWindow is how long the source and id of an event are remembered.
	DuplicatesWindow time.Duration
	// DeadLetterMaxBytes and DeadLetterMaxAge bound what is kept of the events that could not
	// be delivered and have no dead-letter sink.
	DeadLetterMaxBytes int64
	DeadLetterMaxAge   time.Duration
	// AckWait is how long after its dispatcher is gone an event is given to another.
	AckWait time.Duration
	// HopLimit is how often an event may go through a Broker, as the reply to itself.
	HopLimit int64
	// Parallelism is the number of deliveries in flight for each Trigger and Subscription.
	Parallelism int64
	// Delivery is for what neither the Trigger nor its Broker says.
	Delivery Delivery
	// EventTypesMax bounds the EventTypes that are made for one Broker by what it has seen; 0 makes none.
	EventTypesMax int64
}

// Delivery is when an event is tried again.
type Delivery struct {
	Retry         int64
	BackoffPolicy string // exponential or linear
	BackoffDelay  time.Duration
	Timeout       time.Duration
	RetryAfterMax time.Duration
}

func parseEventing(p *parser) Eventing {
	const day = 24 * time.Hour
	e := Eventing{
		Replicas: 1,
		MaxBytes: 1 << 30, MaxAge: 0,
		// A megabyte of data and room for attributes.
		MaxEventBytes:      1<<20 + 64<<10,
		DuplicatesWindow:   2 * time.Minute,
		DeadLetterMaxBytes: 256 << 20, DeadLetterMaxAge: 7 * day,
		AckWait: 10 * time.Second, HopLimit: 255, Parallelism: 100,
		Delivery:      Delivery{Retry: 10, BackoffPolicy: "exponential", BackoffDelay: 200 * time.Millisecond, Timeout: 6 * time.Minute, RetryAfterMax: 5 * time.Minute},
		EventTypesMax: 100,
	}
	p.integer("replicas", &e.Replicas, 1, 5)
	p.bytes("max-bytes", &e.MaxBytes, 1<<20, 1<<50)
	p.integer("max-events", &e.MaxEvents, 0, 1<<50)
	p.duration("max-age", &e.MaxAge, 0, 3650*day)
	p.bytes("max-event-bytes", &e.MaxEventBytes, 1<<10, 64<<20)
	p.duration("duplicates-window", &e.DuplicatesWindow, time.Second, day)
	p.bytes("dead-letter-max-bytes", &e.DeadLetterMaxBytes, 1<<20, 1<<50)
	p.duration("dead-letter-max-age", &e.DeadLetterMaxAge, time.Minute, 3650*day)
	p.duration("ack-wait", &e.AckWait, 2*time.Second, time.Hour)
	p.integer("hop-limit", &e.HopLimit, 1, 255)
	p.integer("parallelism", &e.Parallelism, 1, 10_000)
	p.integer("delivery-retry", &e.Delivery.Retry, 0, 1000)
	p.oneOf("delivery-backoff-policy", &e.Delivery.BackoffPolicy, []string{"exponential", "linear"})
	p.duration("delivery-backoff-delay", &e.Delivery.BackoffDelay, 0, day)
	p.duration("delivery-timeout", &e.Delivery.Timeout, 10*time.Millisecond, day)
	p.duration("delivery-retry-after-max", &e.Delivery.RetryAfterMax, 0, day)
	p.integer("event-types-max", &e.EventTypesMax, 0, 10_000)
	if e.MaxAge > 0 && e.MaxAge < e.DuplicatesWindow {
		p.bad("max-age", "%s is below duplicates-window %s", e.MaxAge, e.DuplicatesWindow)
	}
	if e.MaxBytes < e.MaxEventBytes {
		p.bad("max-bytes", "%d is below max-event-bytes %d", e.MaxBytes, e.MaxEventBytes)
	}
	return e
}

// bytes takes an amount like 1Gi, in bytes.
func (p *parser) bytes(key string, into *int64, low, high int64) {
	var q *resource.Quantity
	p.quantity(key, &q)
	if q == nil {
		return
	}
	if n := q.Value(); n < low || n > high {
		p.bad(key, "%s is outside %d..%d bytes", q.String(), low, high)
	} else {
		*into = n
	}
}
