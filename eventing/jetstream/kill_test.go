package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// received is what one subscription got.
type received struct {
	mu    sync.Mutex
	count map[string]int
	first []uint64 // sequences in the order in which they came for the first time
	seen  map[uint64]bool
}

func (r *received) add(d engine.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count[d.Event().ID]++
	if !r.seen[d.Sequence()] {
		r.seen[d.Sequence()] = true
		r.first = append(r.first, d.Sequence())
	}
}

func (r *received) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.count)
}

// TestAcknowledgedEventsSurviveTheServer kills the server with SIGKILL again and again while
// events are published and consumed by two engines: every event that was acknowledged is
// stored once and comes to every subscription, and in order to the ordered one.
func TestAcknowledgedEventsSurviveTheServer(t *testing.T) {
	const publishers, each, kills = 8, 400, 4
	const total = publishers * each
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	p := startServer(t)
	engines := []engine.Engine{openAt(t, p.url), openAt(t, p.url)}
	const topic = "b.default.main.0a1b2c3d"
	if err := engines[0].PutTopic(ctx, engine.Topic{Name: topic, MaxBytes: 64 << 20, KeepAll: true, Duplicates: time.Hour}); err != nil {
		t.Fatal(err)
	}
	got := map[string]*received{}
	for _, s := range []engine.Subscription{{Name: "unordered"}, {Name: "ordered", Ordered: true}} {
		s.Topic, s.AckWait, s.MaxInFlight = topic, 2*time.Second, 100
		if err := engines[0].PutSubscription(ctx, s); err != nil {
			t.Fatal(err)
		}
		r := &received{count: map[string]int{}, seen: map[uint64]bool{}}
		got[s.Name] = r
		for _, e := range engines {
			c, err := e.Consume(ctx, topic, s.Name)
			if err != nil {
				t.Fatal(err)
			}
			c.SetInFlight(20)
			go func() {
				for {
					d, err := c.Next(ctx)
					if err != nil {
						return
					}
					r.add(d)
					if s.Ordered {
						_ = d.Ack(ctx) // one that is lost comes again
					} else {
						go func() { _ = d.Ack(ctx) }()
					}
				}
			}()
		}
	}

	var stored, unavailable, duplicates atomic.Int64
	var publishing sync.WaitGroup
	for n := range publishers {
		publishing.Go(func() {
			for i := range each {
				e := &event.Event{ID: fmt.Sprintf("%d-%d", n, i), Source: "/publisher", Type: "t", Data: make([]byte, 200)}
				for {
					s, err := engines[n%2].Publish(ctx, topic, e)
					if err == nil {
						if s.Duplicate {
							duplicates.Add(1)
						}
						stored.Add(1)
						break
					}
					if ctx.Err() != nil {
						return
					}
					if !errors.Is(err, engine.ErrUnavailable) {
						t.Errorf("publish: %v", err)
						return
					}
					unavailable.Add(1)
				}
			}
		})
	}
	for k := range kills {
		// At a random place of the k-th part, not at a random time.
		at := int64(k*total/kills + rand.IntN(total/kills))
		for stored.Load() < at && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // between two looks
		}
		p.kill()
		p.again()
	}
	publishing.Wait()
	if n := stored.Load(); n != total {
		t.Fatalf("%d of %d events were acknowledged", n, total)
	}
	for name, r := range got {
		for r.distinct() < total {
			if ctx.Err() != nil {
				t.Fatalf("%s: %d of %d acknowledged events came: the rest is lost", name, r.distinct(), total)
			}
			time.Sleep(5 * time.Millisecond) // between two looks
		}
	}
	// Every event is stored once: a publish that was sent again is a duplicate.
	tail, err := engines[0].Tail(ctx, topic, engine.From{Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	ids := map[string]int{}
	for range total {
		e, _, _, err := tail.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if ids[e.ID]++; ids[e.ID] > 1 {
			t.Errorf("event %s is stored twice", e.ID)
		}
	}
	r := got["ordered"]
	for i := 1; i < len(r.first); i++ {
		if r.first[i] < r.first[i-1] {
			t.Errorf("ordered: event %d came for the first time behind %d", r.first[i], r.first[i-1])
		}
	}
	for name, r := range got {
		twice := 0
		for _, n := range r.count {
			twice += n - 1
		}
		t.Logf("%s: %d events, lost 0, given out twice %d", name, r.distinct(), twice)
	}
	t.Logf("%d kills; publishes that got no answer and were tried again: by the engine and found stored %d, by the test %d", kills, duplicates.Load(), unavailable.Load())
}
