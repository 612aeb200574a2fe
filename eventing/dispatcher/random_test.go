package dispatcher

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ebb.dev/ebb/eventing/deadletter"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// TestWhateverHappens has subscribers that fail at random, dispatchers that are killed and drained, and asks at the end: every event ended
// accepted, replied to or as a dead letter; none is lost; those of an ordered partition came in order; no event came
// again but for a failure, an answer that was lost, or a dispatcher that was killed.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		seed := rapid.Uint64().Draw(r, "seed")
		ordered := rapid.Bool().Draw(r, "ordered")
		events := rapid.IntRange(1, 120).Draw(r, "events")
		kills := rapid.IntRange(0, 4).Draw(r, "kills")
		drains := rapid.IntRange(0, 3).Draw(r, "drains")
		bad := rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(r, "bad")
		parallelism := rapid.SampledFrom([]int{1, 4, 100}).Draw(r, "parallelism")
		bytes := rapid.SampledFrom([]int64{1 << 10, 256 << 20}).Draw(r, "bytes")
		failed := ""
		inBubble(t, func(w *world) {
			failed = whatever(w, rand.New(rand.NewPCG(seed, 1)), ordered, events, kills, drains, bad, parallelism, bytes)
		})
		if failed != "" {
			r.Fatal(failed)
		}
	})
}

func whatever(w *world, rnd *rand.Rand, ordered bool, events, kills, drains int, bad float64, parallelism int, bytes int64) string {
	answers := rand.New(rand.NewPCG(rnd.Uint64(), 2))
	var mu sync.Mutex // of all that follows, and answers
	accepted, seen, excused := map[string]int{}, map[string]int{}, map[string]int{}
	lastOf := map[string]int{} // by partition: the latest that came
	overtook := ""
	replies := map[string]int{}
	handler := func(rw http.ResponseWriter, req *http.Request) {
		s := &sink{}
		s.serve(rwDiscard{}, req)
		if len(s.events) == 0 {
			return // the sender was killed while it sent
		}
		e := s.events[0]
		mu.Lock()
		if e.Type == "reply" {
			replies[e.ID]++
			mu.Unlock()
			return
		}
		seen[e.ID]++
		n := 0
		_, _ = fmt.Sscan(e.ID, &n)
		key, _ := e.Get("partitionkey")
		if ordered && n < lastOf[key] && seen[e.ID] == 1 {
			overtook = fmt.Sprintf("event %d of partition %s came first after %d", n, key, lastOf[key])
		}
		lastOf[key] = max(lastOf[key], n)
		what, takes := answers.Float64(), time.Duration(answers.Int64N(int64(20*time.Second)))
		mu.Unlock()
		select {
		case <-time.After(takes):
		case <-req.Context().Done():
			// Its dispatcher is gone, so it comes again.
			mu.Lock()
			excused[e.ID]++
			mu.Unlock()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case what < bad/3:
			excused[e.ID]++
			panic(http.ErrAbortHandler)
		case what < 2*bad/3:
			excused[e.ID]++
			rw.WriteHeader(http.StatusServiceUnavailable)
		case what < bad:
			accepted[e.ID]++ // refused: it ends as a dead letter
			rw.WriteHeader(http.StatusBadRequest)
		case what > 0.9:
			accepted[e.ID]++
			reply(rw, &event.Event{ID: "r" + e.ID, Source: "/reply", Type: "reply"})
		default:
			accepted[e.ID]++
		}
	}
	w.serve("a", handler)
	sub := w.trigger("t1", "a", func(s *plan.Subscription) {
		s.Ordered, s.Parallelism = ordered, parallelism
		s.Delivery = plan.Delivery{Retry: 3, Backoff: plan.Exponential, Delay: 500 * time.Millisecond, Timeout: time.Minute}
	})
	start := func() *Dispatcher {
		d := w.dispatcher(func(o *Options) { o.MaxBytes = bytes })
		d.Set(sub)
		return d
	}
	running := []*Dispatcher{start()}
	cut := 0 // at most so many events were in flight where a dispatcher was killed
	for i := range events {
		e := numbered(i + 1)
		e.SetExtension("partitionkey", fmt.Sprint(rnd.IntN(4)))
		w.publish(e)
	}
	for kills+drains > 0 {
		w.sleep(time.Duration(rnd.Int64N(int64(20 * time.Second))))
		if rnd.IntN(kills+drains) < kills {
			kills--
			cut += flying(running[0])
			kill(running[0])
			running[0] = start()
		} else {
			drains--
			next := start()
			d := running[0]
			running[0] = next
			ctx := w.ctx
			done := make(chan struct{})
			go func() { defer close(done); d.Drain(ctx) }()
			w.stop = append(w.stop, func() { <-done })
		}
	}
	w.sleep(6 * time.Hour)
	mu.Lock()
	defer mu.Unlock()
	if b := w.backlog("t1"); b != (engine.Backlog{}) {
		return fmt.Sprintf("left: %+v", b)
	}
	dead := map[string]bool{}
	for _, e := range w.dead() {
		dead[deadletter.Open(e, 1, time.Now()).Event.ID] = true
	}
	again := 0
	for i := range events {
		id := fmt.Sprint(i + 1)
		if accepted[id] == 0 && !dead[id] {
			return fmt.Sprintf("event %s is lost: it came %d times", id, seen[id])
		}
		again += seen[id] - 1 - excused[id]
	}
	// An event that failed for the last time has been excused once too often, so this is a bound for those that have not.
	if again > cut {
		return fmt.Sprintf("%d events came again, and only %d were in flight where a dispatcher was killed", again, cut)
	}
	for id, n := range replies {
		if n > 1 {
			return fmt.Sprintf("reply %s came %d times", id, n)
		}
	}
	return overtook
}

func flying(d *Dispatcher) int {
	n := 0
	for _, l := range d.all() {
		l.mu.Lock()
		n += len(l.held)
		l.mu.Unlock()
	}
	return n
}

// rwDiscard lets a sink read without answering.
type rwDiscard struct{}

func (rwDiscard) Header() http.Header         { return http.Header{} }
func (rwDiscard) Write(b []byte) (int, error) { return len(b), nil }
func (rwDiscard) WriteHeader(int)             {}
