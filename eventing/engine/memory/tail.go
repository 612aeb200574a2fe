package memory

import (
	"context"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// Tail reads a topic from a place on.
func (g *Engine) Tail(_ context.Context, name string, from engine.From) (engine.Tail, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	t, err := g.topic(name)
	if err != nil {
		return nil, err
	}
	l := &tail{engine: g, topic: t, next: t.last() + 1, closed: make(chan struct{})}
	switch {
	case from.Sequence > 0:
		l.next = from.Sequence
	case !from.Time.IsZero():
		for i, s := range t.events {
			if !s.at.Before(from.Time) {
				l.next = t.first + uint64(i)
				break
			}
		}
	}
	return l, nil
}

type tail struct {
	engine *Engine
	topic  *topic
	next   uint64
	closed chan struct{}
}

func (l *tail) Next(ctx context.Context) (*event.Event, engine.Stored, time.Time, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, engine.Stored{}, time.Time{}, err
		}
		e, sequence, changed, err := l.take()
		switch {
		case err != nil:
			return nil, engine.Stored{}, time.Time{}, err
		case e.event != nil:
			return e.event, engine.Stored{Sequence: sequence}, e.at, nil
		}
		select {
		case <-changed:
		case <-l.closed:
		case <-ctx.Done():
		}
	}
}

func (l *tail) take() (stored, uint64, <-chan struct{}, error) {
	l.engine.store.mu.Lock()
	defer l.engine.store.mu.Unlock()
	t := l.topic
	select {
	case <-l.closed:
		return stored{}, 0, nil, engine.ErrClosed
	default:
	}
	switch {
	case l.engine.closed:
		return stored{}, 0, nil, engine.ErrClosed
	case t.gone:
		return stored{}, 0, nil, engine.ErrNoTopic
	}
	t.forget(time.Now())
	l.next = max(l.next, t.first)
	if l.next > t.last() {
		return stored{}, 0, t.tails, nil
	}
	sequence := l.next
	l.next++
	return t.events[sequence-t.first], sequence, nil, nil
}

func (l *tail) Close() {
	l.engine.store.mu.Lock()
	defer l.engine.store.mu.Unlock()
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
}
