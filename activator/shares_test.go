package activator

import (
	"context"
	"testing"
	"testing/synctest"

	"ebb.dev/ebb/proxy/link"
)

// shared describes pods of which this activator has those with a turn.
func shared(limit uint32, pods ...*link.Pod) *link.Revision {
	r := describe(pods...)
	r.ContainerConcurrency, r.Activators = limit, []string{"act-1"}
	return r
}

func mine(n int, turn uint64, elsewhere uint32) *link.Pod {
	p := podAt(n)
	p.Ready, p.Activator, p.Turn, p.Elsewhere = true, "act-1@1", turn, elsewhere
	return p
}

// A limit that is described together with pods holds for those who waited for both.
func TestLimitComesWithThePods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 10)
		ctx, leave := context.WithCancel(t.Context())
		for range 3 {
			w.request(ctx, r)
		}
		_ = r.apply(shared(1, mine(1, 1, 0)))
		synctest.Wait()
		if p := r.pods["p1"]; p.inFlight != 1 || r.queue.waiting != 2 {
			t.Errorf("%d requests on a pod that takes one, %d wait", p.inFlight, r.queue.waiting)
		}
		leave()
	})
}

// What others still have on a pod counts toward its limit, and less of it lets more in.
func TestElsewhereCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 10)
		ctx, leave := context.WithCancel(t.Context())
		for range 5 {
			w.request(ctx, r)
		}
		for _, c := range []struct {
			elsewhere uint32
			inFlight  int
		}{{4, 0}, {3, 1}, {3, 1}, {1, 3}, {0, 4}} {
			_ = r.apply(shared(4, mine(1, 1, c.elsewhere)))
			if got := r.pods["p1"].inFlight; got != c.inFlight {
				t.Errorf("%d of 4 places elsewhere: %d requests, want %d", c.elsewhere, got, c.inFlight)
			}
		}
		leave()
	})
}

// A pod that was given up is not used, whatever is described that is older, and the end of
// every request there is told; a newer turn gives it back.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 10)
		_ = r.apply(shared(3, mine(1, 5, 0)))
		a, b := <-w.request(t.Context(), r), <-w.request(t.Context(), r)
		if s := r.giveUp("p1", 7); s.GetInFlight() != 2 || s.GetTurn() != 7 || s.GetMine() {
			t.Errorf("gave up %v, want 2 requests at turn 7", s)
		}
		_ = r.apply(shared(3, mine(1, 5, 0))) // late
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		waits := w.request(ctx, r)
		if len(waits) != 0 {
			t.Error("a pod that was given up got a request")
		}
		if len(w.stuck) != 1 || !w.stuck[0] {
			t.Errorf("told that requests are stuck: %v, want once", w.stuck)
		}
		r.release(a.t, true)
		r.release(b.t, true)
		if len(w.shares) != 2 || w.shares[0].GetInFlight() != 1 || w.shares[1].GetInFlight() != 0 || w.shares[1].GetTurn() != 7 {
			t.Errorf("told %v, want 1 and 0 left", w.shares)
		}
		_ = r.apply(shared(3, mine(1, 8, 0)))
		if got := <-waits; got.pod != "p1" {
			t.Errorf("a newer turn gave %+v", got)
		}
		if len(w.stuck) != 2 || w.stuck[1] {
			t.Errorf("told that requests are stuck: %v, want that they are not any more", w.stuck)
		}
	})
}

// A pod that is given up before it is described, of a revision that nobody asked for, stays given up.
func TestGiveUpUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		tab := &table{
			env: &w.environment, maxHeld: 10, maxEntries: 2, maxUnknown: 2,
			watch: func(string, bool) {}, unknown: map[string]struct{}{}, fences: fences{all: map[string]*fence{}},
		}
		if s := tab.giveUp(&link.Release{Cluster: testCluster, Pod: "p1", Turn: 7}); s.GetInFlight() != 0 || s.GetTurn() != 7 {
			t.Errorf("gave up %v", s)
		}
		r, _ := tab.lookup(testCluster)
		_ = tab.giveUp(&link.Release{Cluster: testCluster, Pod: "p2", Turn: 9})
		_ = tab.apply(testCluster, shared(1, mine(1, 6, 0), mine(2, 8, 0)))
		if r.pods["p1"].mine || r.pods["p2"].mine {
			t.Error("an older description gave a pod back")
		}
		_ = tab.apply(testCluster, shared(1, mine(1, 7, 0), mine(2, 10, 0)))
		if all, _ := tab.shares(); len(all) != 2 || w.turn.Load() != 10 {
			t.Errorf("has %v, highest turn %d; want both pods and 10", all, w.turn.Load())
		}
	})
}

// Who holds requests and is none of a revision's activators says so, though it has a pod.
func TestStuckWithoutAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 10)
		others := shared(1, mine(1, 1, 0))
		others.Activators = []string{"act-2"}
		_ = r.apply(others)
		first := <-w.request(t.Context(), r)
		second := w.request(t.Context(), r)
		if len(w.stuck) != 1 || !w.stuck[0] {
			t.Errorf("told that requests are stuck: %v", w.stuck)
		}
		r.release(first.t, true)
		<-second
		if len(w.stuck) != 2 || w.stuck[1] {
			t.Errorf("told that requests are stuck: %v, want that they are not any more", w.stuck)
		}
	})
}
