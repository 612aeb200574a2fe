package window

import (
	"math"
	"time"
)

// Shape says over what a Window averages. Shapes are compared with ==.
type Shape struct {
	Stable time.Duration // 6 s to 1 h
	Panic  time.Duration // at least 1 s, at most Stable
	// Exponential weighs recent load more (weighted-exponential); otherwise every
	// moment of the window weighs the same (linear).
	Exponential bool
}

const (
	minPanic = time.Second
	minGrain = 100 * time.Millisecond
	// An average over less time than this is a single sample, so a shorter history is
	// filled up with zeros to this length.
	minSpan = time.Second
)

// PanicOf is the panic window that is percent (1..100) of the stable one, at least 1 s.
func PanicOf(stable time.Duration, percent float64) time.Duration {
	p := time.Duration(float64(stable) * percent / 100)
	return min(max(p, minPanic), max(stable, minPanic))
}

// Averages of load per second of time: requests in flight for integrals of concurrency,
// requests per second for counts.
type Averages struct {
	Stable, Panic float64
	// LastBusy is the end of the last period that had load; zero when none is remembered.
	LastBusy time.Time
}

// Window remembers load for one stable window. Its memory is one float64 for each
// tenth of the panic window, and is held only while there is load to remember.
//
// It keeps the integral of the load up to the end of each bucket of time, so an average
// over any window is one subtraction, exact up to how load is spread inside the oldest bucket.
type Window struct {
	shape Shape
	grain time.Duration
	since time.Time // what the averages reach back to at most
	busy  time.Time
	epoch time.Time // from which time is counted: by the monotonic clock, so that a wall clock that is set changes nothing
	head  int64     // number of the newest bucket: time since the epoch / grain
	total []float64 // ring: total[b mod len] = integral up to the end of bucket b
}

// New returns an empty Window whose history begins at since.
func New(shape Shape, since time.Time) *Window {
	w := &Window{since: since, epoch: since}
	w.setShape(shape)
	return w
}

func (w *Window) setShape(s Shape) {
	s.Stable = max(s.Stable, minPanic)
	s.Panic = min(max(s.Panic, minPanic), s.Stable)
	w.shape = s
	w.grain = max(s.Panic/10, minGrain)
}

// Reshape changes what is averaged over. The load remembered so far is carried over.
func (w *Window) Reshape(shape Shape) {
	old := *w
	w.setShape(shape)
	if w.shape == old.shape || old.total == nil {
		return
	}
	w.total = nil
	n := int64(len(old.total))
	for b := old.head - n + 2; b <= old.head; b++ {
		if v := old.at(b) - old.at(b-1); v > 0 {
			from := old.begin(b)
			w.Add(from, from.Add(old.grain), v)
		}
	}
	w.busy = old.busy
}

// Shape returns what the Window averages over.
func (w *Window) Shape() Shape { return w.shape }

// Since is the beginning of the history.
func (w *Window) Since() time.Time { return w.since }

// Restart forgets everything; the history begins at since.
func (w *Window) Restart(since time.Time) {
	*w = Window{shape: w.shape, grain: w.grain, since: since, epoch: since}
}

// Touch notes that there is load at t, without any amount.
func (w *Window) Touch(t time.Time) {
	if t.After(w.busy) {
		w.busy = t
	}
}

// Add spreads integral evenly over [from, to]. Periods of several reporters may overlap; they add
// up. What is older than the window is dropped. It costs the number of buckets between from and the newest.
func (w *Window) Add(from, to time.Time, integral float64) {
	if integral <= 0 || math.IsNaN(integral) || math.IsInf(integral, 0) {
		return
	}
	if from.After(to) {
		from = to
	}
	if from.Before(w.since) {
		w.since = from
	}
	w.Touch(to)
	first, last := w.bucket(from), w.bucket(to)
	w.advance(last)
	oldest := w.head - int64(len(w.total)) + 2 // the bucket before it only carries the sum so far
	if last < oldest {
		return
	}
	span := to.Sub(from)
	for b := max(first, oldest); b <= w.head; b++ {
		part := 1.0
		if b < last && span > 0 {
			part = float64((b+1)*int64(w.grain)-w.count(from)) / float64(span)
		}
		w.total[w.slot(b)] += integral * part
	}
	if first < oldest && span > 0 {
		// The clipped part is before the window: count it as before.
		part := float64(oldest*int64(w.grain)-w.count(from)) / float64(span)
		w.total[w.slot(oldest-1)] += integral * part
	}
}

// Averages returns the averages over the windows that end at now. A history shorter than a window is
// averaged over its own length, at least one second.
func (w *Window) Averages(now time.Time) Averages {
	if w.total != nil && now.Sub(w.busy) >= w.shape.Stable {
		w.total = nil // only zeros are left to remember
	}
	a := Averages{LastBusy: w.busy}
	if w.total == nil {
		return a
	}
	if b := w.bucket(now); b > w.head {
		w.advance(b)
	}
	if w.shape.Exponential {
		a.Stable = w.exponential(now, w.shape.Stable)
		a.Panic = w.exponential(now, w.shape.Panic)
		return a
	}
	a.Stable = w.linear(now, w.shape.Stable)
	a.Panic = w.linear(now, w.shape.Panic)
	return a
}

// NextChange is when the averages next change though nothing is added: the end of the current
// bucket while there is load to forget, zero otherwise.
func (w *Window) NextChange(now time.Time) time.Time {
	if w.total == nil {
		return time.Time{}
	}
	return w.begin(w.bucket(now) + 1)
}

// span is the part of size that the history covers.
func (w *Window) span(now time.Time, size time.Duration) time.Duration {
	return min(size, max(now.Sub(w.since), minSpan))
}

func (w *Window) linear(now time.Time, size time.Duration) float64 {
	span := w.span(now, size)
	return max(w.total[w.slot(w.head)]-w.upTo(now.Add(-span)), 0) / span.Seconds()
}

// exponential weighs load of age a (seconds) by q^a, with q as the reference gives it for buckets of
// one second: coefficient = max(1-(1-0.9999)^(1/n), 0.2), q = 1 - coefficient.
func (w *Window) exponential(now time.Time, size time.Duration) float64 {
	n := max(size.Seconds(), 1)
	q := 1 - max(1-math.Pow(1-0.9999, 1/n), 0.2)
	span := w.span(now, size)
	start := now.Add(-span)
	sum, young, age := 0.0, 1.0, 0.0
	for b := w.head; ; b-- {
		from := w.begin(b)
		mass := w.at(b) - w.upTo(from)
		if from.Before(start) {
			mass = w.at(b) - w.upTo(start)
			from = start
		}
		if old := now.Sub(from).Seconds(); old > age {
			weight := math.Pow(q, old)
			sum += mass / (old - age) * (young - weight)
			young, age = weight, old
		}
		if !from.After(start) || young < 1e-6 {
			break
		}
	}
	return max(sum, 0) / (1 - math.Pow(q, span.Seconds()))
}

// upTo is the integral up to t, linear inside a bucket.
func (w *Window) upTo(t time.Time) float64 {
	b := w.bucket(t)
	from, to := b*int64(w.grain), (b+1)*int64(w.grain)
	if s := w.count(w.since); s > from && s < to {
		from = s // the history begins in this bucket
	}
	before := w.at(b - 1)
	in := max(float64(w.count(t)-from)/float64(to-from), 0)
	return before + in*(w.at(b)-before)
}

// at is the integral up to the end of bucket b.
func (w *Window) at(b int64) float64 {
	oldest := w.head - int64(len(w.total)) + 1
	return w.total[w.slot(min(max(b, oldest), w.head))]
}

// count is the time since the epoch in nanoseconds.
func (w *Window) count(t time.Time) int64 { return int64(t.Sub(w.epoch)) }

// begin is when bucket b begins.
func (w *Window) begin(b int64) time.Time { return w.epoch.Add(time.Duration(b) * w.grain) }

func (w *Window) bucket(t time.Time) int64 {
	n, g := w.count(t), int64(w.grain)
	b := n / g
	if n%g < 0 {
		b--
	}
	return b
}

func (w *Window) slot(b int64) int {
	n := int64(len(w.total))
	return int(((b % n) + n) % n)
}

// advance makes b the newest bucket, unless a newer one is known.
func (w *Window) advance(b int64) {
	if w.total == nil {
		// One bucket more for the partial one at each end, one for the sum before.
		w.total = make([]float64, int(w.shape.Stable/w.grain)+3)
		w.head = b
		return
	}
	if b <= w.head {
		return
	}
	sum := w.total[w.slot(w.head)]
	for i := max(w.head+1, b-int64(len(w.total))+1); i <= b; i++ {
		w.total[w.slot(i)] = sum
	}
	w.head = b
}
