package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/plan"
)

// Quiet is how long List waits for one more letter before it takes the list to be whole: an engine does not say where a topic ends.
const Quiet = 500 * time.Millisecond

// List reads the dead letters of a topic, given by its own name, from a place on, and calls each for those there are. It ends with each's
// error, with ctx, or when there was no further letter for Quiet; with follow it waits for more. A topic without dead letters has none.
func List(ctx context.Context, e engine.Engine, topic string, from engine.From, follow bool, each func(Letter) error) error {
	if from == (engine.From{}) && !follow {
		from.Sequence = 1
	}
	t, err := e.Tail(ctx, plan.DeadLetters(topic), from)
	if errors.Is(err, engine.ErrNoTopic) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the dead letters of %s: %w", topic, err)
	}
	defer t.Close()
	for {
		next, cancel := ctx, context.CancelFunc(func() {})
		if !follow {
			next, cancel = context.WithTimeout(ctx, Quiet)
		}
		stored, place, at, err := t.Next(next)
		cancel()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return nil
		default:
			return fmt.Errorf("read the dead letters of %s: %w", topic, err)
		}
		if err := each(Open(stored, place.Sequence, at)); err != nil {
			return err
		}
	}
}

// Redeliver has a dead letter delivered to its subscription again. It returns when that is stored. When the
// subscription is gone, the error is engine.ErrNoSubscription.
func Redeliver(ctx context.Context, e engine.Engine, topic string, l Letter) (engine.Stored, error) {
	if _, err := e.Backlog(ctx, topic, l.Subscription); err != nil {
		return engine.Stored{}, fmt.Errorf("redeliver event %s to %s %s/%s: %w", l.Event.ID, l.Owner.Kind, l.Owner.Namespace, l.Owner.Name, err)
	}
	stored, err := e.Publish(ctx, topic, l.addressed())
	if err != nil {
		return stored, fmt.Errorf("redeliver event %s to %s %s/%s: %w", l.Event.ID, l.Owner.Kind, l.Owner.Namespace, l.Owner.Name, err)
	}
	return stored, nil
}
