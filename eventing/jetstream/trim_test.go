package jetstream_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// TestWhatEverybodyHasGoes: without the topic being full, what every subscription has acknowledged is taken away
// after the window of duplicates, and nothing else is.
func TestWhatEverybodyHasGoes(t *testing.T) {
	e := openAt(t, startServer(t).url)
	ctx := t.Context()
	const topic = "b.default.main.0a1b2c3d"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(e.PutTopic(ctx, engine.Topic{Name: topic, Duplicates: 100 * time.Millisecond}))
	must(e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: "quick"}))
	must(e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: "slow", MaxInFlight: 100000}))
	publish := func(first, n int) {
		t.Helper()
		var all sync.WaitGroup
		for w := range 64 {
			all.Go(func() {
				for i := first + w; i < first+n; i += 64 {
					if _, err := e.Publish(ctx, topic, &event.Event{ID: fmt.Sprint(i), Source: "/s", Type: "t"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	quick, err := e.Consume(ctx, topic, "quick")
	must(err)
	go func() {
		for {
			d, err := quick.Next(ctx)
			if err != nil {
				return
			}
			_ = d.Ack(ctx)
		}
	}()
	slow, err := e.Consume(ctx, topic, "slow")
	must(err)
	slow.SetInFlight(100000)
	const n = 3000
	publish(0, n)
	var held []engine.Delivery
	for range n {
		d, err := slow.Next(ctx)
		must(err)
		held = append(held, d)
	}
	// The slow one has all but event number 1,000 of the topic.
	var all sync.WaitGroup
	for w := range 64 {
		all.Go(func() {
			for i := w; i < n; i += 64 {
				if held[i].Sequence() != 1000 {
					if err := held[i].Ack(ctx); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	first := func() uint64 {
		t.Helper()
		tail, err := e.Tail(ctx, topic, engine.From{Sequence: 1})
		must(err)
		defer tail.Close()
		_, stored, _, err := tail.Next(ctx)
		must(err)
		return stored.Sequence
	}
	next := n
	for round := 0; first() < 1000; round++ {
		if round == 300 {
			t.Fatalf("the topic still begins at %d", first())
		}
		publish(next, n) // publishing is what has it looked at
		next += n
	}
	publish(next, 3*n)
	if got := first(); got != 1000 {
		t.Errorf("the topic begins at %d; it has to keep 1000, which a subscription has not acknowledged", got)
	}
	b, err := e.Backlog(ctx, topic, "slow")
	must(err)
	if b.InFlight == 0 {
		t.Errorf("the event that was held is gone: %+v", b)
	}
}
