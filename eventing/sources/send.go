package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// Sink is where events go.
type Sink struct {
	URL string
	// Topic of the engine, where the sink is a Broker or a Channel of Ebb; "" for any other.
	Topic string
}

// Sender sends events. It is safe for concurrent use.
type Sender struct {
	Engine engine.Engine
	Client *http.Client
	// Delivery is when an event is tried again.
	Delivery func() plan.Delivery
	// Seen is told of events that were published into a topic. It does not block. It may be nil.
	Seen func(plan.Address, *event.Event)
}

// maxAnswer is how much of an answer is read, so that the connection can be used again.
const maxAnswer = 64 << 10

// Send sends one event, again when that fails, until it is taken, refused for good, or ctx ends. An event may be taken more than once.
func (s *Sender) Send(ctx context.Context, to Sink, e *event.Event) error {
	d := s.Delivery()
	for attempt := 1; ; attempt++ {
		answer, err := s.once(ctx, d, to, e)
		decision := delivery.Decide(d, attempt, answer, rand.Float64()) //nolint:gosec // jitter
		switch decision.Verdict {
		case delivery.Accept, delivery.Derive:
			return nil
		case delivery.Dead:
			if err == nil {
				err = fmt.Errorf("the sink answers %d", answer.Status)
			}
			return fmt.Errorf("event %s of %s: given up after %d attempts: %w", e.ID, e.Source, attempt, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(decision.After):
		}
	}
}

// once makes one attempt; an answer without a status is none.
func (s *Sender) once(ctx context.Context, d plan.Delivery, to Sink, e *event.Event) (delivery.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	if to.Topic != "" {
		_, err := s.Engine.Publish(ctx, to.Topic, e)
		switch {
		case err == nil:
			if a, _, ok := plan.OwnerOf(to.Topic); ok && s.Seen != nil {
				s.Seen(a, e)
			}
			return delivery.Answer{Status: http.StatusAccepted}, nil
		case errors.Is(err, engine.ErrTooLarge):
			return delivery.Answer{Status: http.StatusRequestEntityTooLarge}, err
		}
		return delivery.Answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(e.Data))
	if err != nil {
		return delivery.Answer{Status: http.StatusBadRequest}, err
	}
	e.ToHTTP(request.Header)
	response, err := s.Client.Do(request)
	if err != nil {
		return delivery.Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	return delivery.Answer{Status: response.StatusCode, RetryAfter: delivery.RetryAfter(response.Header.Get("Retry-After"), time.Now())}, nil
}
