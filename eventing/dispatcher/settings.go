package dispatcher

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/filter"
	"ebb.dev/ebb/eventing/plan"
)

// settings are a plan.Subscription made ready. They are not changed once made.
type settings struct {
	plan.Subscription
	filter     *filter.Matcher
	subscriber *endpoint
	reply      *endpoint // nil: none
	deadLetter *endpoint // nil: none
}

// settings makes a subscription ready. What is wrong with it is in the error; the settings are good for what is right.
func (d *Dispatcher) settings(s plan.Subscription) (*settings, error) {
	var errs []error
	ready := &settings{Subscription: s}
	ready.Parallelism = max(s.Parallelism, 1)
	var err error
	if ready.filter, err = filter.Compile(s.Filter); err != nil {
		errs = append(errs, fmt.Errorf("it matches no event: %w", err))
	}
	for _, t := range []struct {
		name   string
		target plan.Target
		into   **endpoint
	}{{"subscriber", s.Subscriber, &ready.subscriber}, {"reply", s.Reply, &ready.reply}, {"dead letters", s.DeadLetter, &ready.deadLetter}} {
		if t.target.URL == "" && t.name != "subscriber" {
			continue
		}
		if *t.into, err = d.clients.endpoint(t.target); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.name, err))
		}
		(*t.into).structured = s.Delivery.Structured
	}
	return ready, errors.Join(errs...)
}

func (s *settings) endpoints() []*endpoint {
	return []*endpoint{s.subscriber, s.reply, s.deadLetter}
}

// who is the object, for people.
func (s *settings) who() string { return who(s.Owner) }

func who(o plan.Reference) string { return o.Kind + "/" + o.Namespace + "/" + o.Name }

// backoff is the wait after so many failures.
func (s *settings) backoff(failures int) time.Duration { return delivery.Backoff(s.Delivery, failures) }

// partition is what orders an event: events with different ones may overtake each other.
func (s *settings) partition(e *event.Event) string {
	if key, there := e.Get(s.PartitionKey); there {
		return key
	}
	return e.Subject
}

// endpoint is a target made ready.
type endpoint struct {
	plan.Target
	parsed *url.URL
	client *client
	plain  *plainTarget // nil: not that way
	failed error        // why nothing can be sent there

	structured bool // events go there in structured mode
}
