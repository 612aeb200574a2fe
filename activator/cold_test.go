package activator

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestColdStartIsReported: how long the first request of a start from zero was held, and when a pod
// served, is in one report, whatever other requests wait meanwhile.
func TestColdStartIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 10)
		reported := func() (held, probed time.Duration, metrics int) {
			s, _ := r.takeLoad(true)
			return s.coldHeld, s.coldProbed, len(s.loadMetrics())
		}
		time.Sleep(time.Second)
		first := w.request(t.Context(), r)
		time.Sleep(50 * time.Millisecond)
		second := w.request(t.Context(), r)
		if held, _, n := reported(); held != 0 || n != 1 {
			t.Errorf("while it goes on %v is reported", held)
		}
		w.up["10.0.0.1:8080"] = 1225 * time.Millisecond
		time.Sleep(150 * time.Millisecond)
		if err := r.apply(describe(podAt(1))); err != nil {
			t.Fatal(err)
		}
		got := <-first
		if held, probed, n := reported(); held != 230*time.Millisecond || probed != 230*time.Millisecond || n != 3 {
			t.Errorf("%v held, %v until a pod served, %d metrics", held, probed, n)
		}
		r.release(got.t, true)
		got = <-second
		r.release(got.t, true)
		got = <-w.request(t.Context(), r)
		r.release(got.t, true)
		if held, _, n := reported(); held != 0 || n != 1 {
			t.Errorf("requests to a pod that serves report %v", held)
		}
	})
}
