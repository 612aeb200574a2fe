package dispatcher

import (
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ebb.dev/ebb/eventing/delivery"
)

func none(int) time.Duration { return 0 }

// TestTheWindowFollowsASubscriber has one that takes so many at once and refuses the rest.
func TestTheWindowFollowsASubscriber(t *testing.T) {
	for _, capacity := range []int{1, 3, 10, 50, 200} {
		w := newWindow(100)
		now := time.Unix(0, 0)
		refused, served := 0, 0
		for range 400 { // rounds
			n := 0
			for w.room(now, n) {
				n++
			}
			if n == 0 {
				now = w.until
				continue
			}
			sent := now
			now = now.Add(10 * time.Millisecond)
			for i := range n {
				a := delivery.Answer{Status: http.StatusOK}
				if i >= capacity {
					a.Status = http.StatusServiceUnavailable
					refused++
				} else {
					served++
				}
				w.answered(now, sent, n-i, time.Minute, a, 0, none)
			}
		}
		if at := float64(served) / 400 / float64(min(capacity, 100)); at < 0.7 {
			t.Errorf("capacity %d: %d served in 400 rounds, %.2f of what could be", capacity, served, at)
		}
		if part := float64(refused) / float64(served); part > 0.2 {
			t.Errorf("capacity %d: %d refused of %d", capacity, refused, served)
		}
	}
}

func TestTheWindowStopsWhereAnswersTakeLonger(t *testing.T) {
	// One pod that does one at a time, 20 ms each, and queues the rest.
	w := newWindow(100)
	now := time.Unix(0, 0)
	for range 300 {
		n := 0
		for w.room(now, n) {
			n++
		}
		sent := now
		for i := range n {
			now = now.Add(20 * time.Millisecond)
			w.answered(now, sent, n-i, time.Minute, delivery.Answer{Status: http.StatusOK}, 0, none)
		}
	}
	if n := w.whole(); n < 4 || n > 40 {
		t.Errorf("the window is %d: want a queue that keeps the subscriber busy, and not more", n)
	}
	// Near the timeout there have to be fewer.
	w = newWindow(100)
	w.size = 64
	w.waking = false
	w.answered(now, now.Add(-40*time.Second), 64, time.Minute, delivery.Answer{Status: http.StatusOK}, 0, none)
	if n := w.whole(); n != 32 {
		t.Errorf("the window is %d after an answer that took most of the timeout, want 32", n)
	}
}

func TestTheWindowCoolsDown(t *testing.T) {
	w := newWindow(100)
	now := time.Unix(0, 0)
	for i := range 20 {
		w.answered(now, now, 20-i, time.Minute, delivery.Answer{Status: http.StatusOK}, 0, none)
	}
	if n := w.whole(); n < 10 {
		t.Fatalf("the window is %d", n)
	}
	if now = now.Add(coolAfter); !w.room(now, 1) {
		t.Error("no room for a second while the subscriber is warm")
	}
	if now = now.Add(time.Second); !w.room(now, 0) || w.room(now, 1) {
		t.Error("after a while without answers one has to go first")
	}
}

func TestTheWindowIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 200).Draw(t, "most")
		w := newWindow(most)
		now := time.Unix(0, 0)
		flying := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "ms")) * time.Millisecond)
			switch {
			case w.room(now, flying):
				flying++
				if now.Before(w.until) {
					t.Fatal("room in a pause")
				}
			case flying > 0:
				a := delivery.Answer{Status: rapid.SampledFrom([]int{0, 200, 400, 429, 500, 503}).Draw(t, "status")}
				pause := time.Duration(rapid.IntRange(0, 100).Draw(t, "pause")) * time.Second
				w.answered(now, now.Add(-time.Duration(rapid.IntRange(0, 60_000).Draw(t, "took"))*time.Millisecond), flying, time.Minute, a, pause, func(n int) time.Duration { return time.Duration(n) * time.Second })
				flying--
			case rapid.Bool().Draw(t, "limit"):
				most = rapid.IntRange(1, 200).Draw(t, "new most")
				w.limit(most)
			}
			if w.whole() < 1 || w.whole() > most || w.size > float64(most) || w.until.Sub(now) > maxPause {
				t.Fatalf("%+v of at most %d", w, most)
			}
		}
	})
}
