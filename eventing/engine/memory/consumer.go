package memory

import (
	"context"
	"slices"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

type consumer struct {
	engine       *Engine
	subscription *subscription
	started      bool // Next or SetInFlight was called
	waits        bool // in Next
	bound, held  int
	buffer       []*delivery
	err          error // ends Next
	wake         chan struct{}
}

func (c *consumer) room() bool { return c.started && c.held < c.bound }

func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *consumer) Next(ctx context.Context) (engine.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if d, err := c.take(); d != nil || err != nil {
			return d, err
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			c.engine.store.mu.Lock()
			c.waits = false
			c.engine.store.mu.Unlock()
		}
	}
}

func (c *consumer) take() (engine.Delivery, error) {
	c.engine.store.mu.Lock()
	defer c.engine.store.mu.Unlock()
	if !c.started && c.err == nil {
		c.started = true
		c.subscription.serve(time.Now())
	}
	c.waits = len(c.buffer) == 0
	if !c.waits {
		d := c.buffer[0]
		c.buffer = c.buffer[1:]
		c.subscription.pending[d.sequence].given = true
		if len(c.buffer) > 0 {
			c.signal()
		}
		return d, nil
	}
	if c.err != nil {
		c.signal() // for whoever else waits
		return nil, c.err
	}
	return nil, nil
}

func (c *consumer) SetInFlight(n int) {
	c.engine.store.mu.Lock()
	defer c.engine.store.mu.Unlock()
	c.started, c.bound = true, max(n, 0)
	if c.err == nil {
		c.subscription.serve(time.Now())
	}
}

func (c *consumer) Close() {
	c.engine.store.mu.Lock()
	defer c.engine.store.mu.Unlock()
	c.close()
}

// close gives back at once what was not given out.
func (c *consumer) close() {
	if c.err != nil {
		return
	}
	s, now := c.subscription, time.Now()
	c.err = engine.ErrClosed
	for _, d := range slices.Clone(c.buffer) {
		p := s.pending[d.sequence]
		s.take(p)
		s.comes(p, now)
	}
	c.buffer = nil
	c.signal()
	s.consumers = slices.DeleteFunc(s.consumers, func(other *consumer) bool { return other == c })
	c.engine.consumers = slices.DeleteFunc(slices.Clone(c.engine.consumers), func(other *consumer) bool { return other == c })
	s.serve(now)
}

type delivery struct {
	consumer *consumer
	event    *event.Event
	at       time.Time
	sequence uint64
	attempt  int
}

func (d *delivery) Event() *event.Event  { return d.event }
func (d *delivery) Sequence() uint64     { return d.sequence }
func (d *delivery) Attempt() int         { return d.attempt }
func (d *delivery) Published() time.Time { return d.at }

// Ack may come late: whoever has the event now, it is done.
func (d *delivery) Ack(ctx context.Context) error {
	return d.settle(ctx, func(s *subscription, p *pending, now time.Time) {
		s.take(p)
		delete(s.pending, d.sequence)
		s.topic.forget(now)
	})
}

func (d *delivery) Nak(ctx context.Context, after time.Duration) error {
	return d.settle(ctx, func(s *subscription, p *pending, now time.Time) {
		if p.attempt == d.attempt && p.holder == d.consumer {
			s.take(p)
			s.comes(p, now.Add(max(after, 0)))
		}
	})
}

func (d *delivery) Working(ctx context.Context) error {
	return d.settle(ctx, func(s *subscription, p *pending, now time.Time) {
		if p.attempt == d.attempt && p.holder == d.consumer {
			s.comes(p, now.Add(s.AckWait))
		}
	})
}

func (d *delivery) settle(ctx context.Context, f func(*subscription, *pending, time.Time)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g, s := d.consumer.engine, d.consumer.subscription
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if g.closed {
		return engine.ErrUnavailable
	}
	if p := s.pending[d.sequence]; p != nil {
		now := time.Now()
		f(s, p, now)
		s.serve(now)
	}
	return nil
}
