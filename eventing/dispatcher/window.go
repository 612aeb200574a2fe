package dispatcher

import (
	"time"

	"ebb.dev/ebb/eventing/delivery"
)

const (
	// coolAfter is how long after its last answer a subscriber may be gone to zero.
	coolAfter = 30 * time.Second
	// A window does not grow while answers take this much longer than the best ones, and longer than slowest.
	stretched = 8
	slow      = 100 * time.Millisecond
	// steady is the fewest answers between two steps beyond the threshold, so that one that takes one at a time is not asked for two all the time.
	steady = 8
	// maxPause is the longest that a lane asks nothing, whatever the subscriber says: an event's own retry may wait longer.
	maxPause = 30 * time.Second
)

// window is how many deliveries of one lane may be in flight. It is pure: its caller gives the time.
//
// It begins with one, grows by one with each answer (so it doubles with each round) up to the threshold, and beyond it by about one
// a round. When the subscriber has no room (no answer, 429, 502, 503, 504, or an answer that took more than half of the timeout)
// it is halved, once for all that was sent before, and the threshold is there from then on.
type window struct {
	max       int
	size      float64
	threshold float64
	best      time.Duration // shortest answer of late
	smooth    time.Duration // average of late
	answer    time.Time     // the last one
	cut       time.Time     // the last time it was halved
	until     time.Time     // nothing is sent before
	busy      int           // answers without room since the last one with
	waking    bool          // no answer yet: the first one may have started the subscriber, so its time says nothing
}

func newWindow(most int) window {
	w := window{max: most}
	w.reset()
	return w
}

func (w *window) reset() {
	w.size, w.threshold, w.best, w.smooth, w.waking = 1, float64(w.max), 0, 0, true
}

// room says whether another delivery may begin.
func (w *window) room(now time.Time, inFlight int) bool {
	if now.Before(w.until) {
		return false
	}
	if inFlight == 0 && now.Sub(w.answer) > coolAfter {
		w.reset()
	}
	return inFlight < w.whole()
}

func (w *window) whole() int { return min(max(int(w.size), 1), w.max) }

// answered counts an answer to what was sent at a time, while so many were in flight, itself among them. backoff is how long the policy waits
// after so many failures one after the other.
func (w *window) answered(now, sent time.Time, inFlight int, timeout time.Duration, a delivery.Answer, pause time.Duration, backoff func(failures int) time.Duration) {
	w.answer = now
	took := now.Sub(sent)
	if a.Busy() {
		w.busy++
		w.halve(now, sent)
		if w.whole() == 1 && pause == 0 {
			// Nothing works: the next event will not fare better, so that it does not use up its attempts.
			pause = backoff(w.busy)
		}
		if until := now.Add(min(pause, maxPause)); pause > 0 && until.After(w.until) {
			w.until = until
		}
		return
	}
	w.busy = 0
	if w.waking {
		w.waking = false
		if a.Accepted() {
			w.size = min(w.size+1, float64(w.max))
		}
		return
	}
	if w.best == 0 || took < w.best {
		w.best = took
	} else {
		w.best += w.best / 256 // of late
	}
	if w.smooth == 0 {
		w.smooth = took
	}
	w.smooth += (took - w.smooth) / 8
	switch {
	case timeout > 0 && took > timeout/2:
		w.halve(now, sent)
	case w.smooth > slow && w.smooth > stretched*w.best, !a.Accepted(), 2*inFlight < w.whole():
		// It is full, it does not work, or the window is not what bounds it.
	case w.size < w.threshold:
		w.size = min(w.size+1, float64(w.max))
	default:
		w.size = min(w.size+1/max(w.size, steady), float64(w.max))
	}
}

func (w *window) halve(now, sent time.Time) {
	if sent.Before(w.cut) {
		return
	}
	w.size = max(w.size/2, 1)
	w.threshold = w.size
	w.cut = now
}

// limit changes how many there may be at most.
func (w *window) limit(most int) {
	if most == w.max {
		return
	}
	w.max = most
	w.size = min(w.size, float64(most))
	w.threshold = float64(most)
}
