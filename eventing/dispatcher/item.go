package dispatcher

import (
	"context"
	"sync"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// item is one event that a lane has from the engine and has not given back.
type item struct {
	event    *event.Event
	sequence uint64
	attempt  int // of the next or the running attempt
	size     int64

	// Under the lane's mutex.
	key  string      // of an ordered lane
	busy bool        // a goroutine has it, which ends it
	wait *time.Timer // until the next attempt, of an ordered lane
	gone bool

	mu       sync.Mutex // of the engine's delivery, which is not thread-safe
	delivery engine.Delivery
	over     bool
	touched  time.Time
}

func (it *item) ack(ctx context.Context) error {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.over = true
	return it.delivery.Ack(ctx)
}

func (it *item) nak(ctx context.Context, after time.Duration) error {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.over = true
	return it.delivery.Nak(ctx, after)
}

// working tells the engine that the event is still being worked on, if that was not said for a while.
func (it *item) working(ctx context.Context, now time.Time, every time.Duration) error {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.over || now.Sub(it.touched) < every {
		return nil
	}
	it.touched = now
	return it.delivery.Working(ctx)
}

// replace goes on with another delivery of the same event: the engine gave it out again while it was here.
// false: the event has ended here meanwhile.
func (it *item) replace(d engine.Delivery, now time.Time) bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	if !it.over {
		it.delivery, it.touched = d, now
	}
	return !it.over
}

// queue is first in, first out.
type queue struct {
	items []*item
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(it *item) { q.items = append(q.items, it) }

func (q *queue) pop() *item {
	it := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 1024 {
			q.items = nil
		}
	case q.head > 64 && 2*q.head > len(q.items):
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return it
}
