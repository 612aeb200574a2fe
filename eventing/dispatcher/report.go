package dispatcher

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"ebb.dev/ebb/eventing/plan"
)

// Reporter hears how much there is still to do.
type Reporter interface {
	// Report is called from one goroutine, with what has changed since the last time; it should not block.
	Report(changed []Backlog)
}

// Backlog is what a subscription has still to do, over all dispatchers.
type Backlog struct {
	Subscription string // the engine's name
	Owner        plan.Reference
	URL          string // of the subscriber
	Waiting      uint64 // stored, not given out, and for this subscription: an estimate where a filter lets a part through
	InFlight     uint64 // given out and not acknowledged
	Resting      uint64 // of these, those that this dispatcher has put off until their next attempt
	Parallelism  int    // deliveries at once at most: of an ordered one, one for each partition of which this dispatcher has events
	At           time.Time
}

// reports asks the engine for the backlog of lanes that have something to do, and of no others.
type reports struct {
	d    *Dispatcher
	wake chan struct{}

	mu    sync.Mutex
	dirty map[*lane]struct{}

	last map[string]Backlog // as it was reported; of the goroutine that reports
}

func newReports(d *Dispatcher) *reports {
	return &reports{d: d, wake: make(chan struct{}, 1), dirty: map[*lane]struct{}{}, last: map[string]Backlog{}}
}

func (r *reports) changed(l *lane) {
	r.mu.Lock()
	_, there := r.dirty[l]
	if !there {
		r.dirty[l] = struct{}{}
	}
	r.mu.Unlock()
	if !there {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (r *reports) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.wake:
		case <-r.d.ctx.Done():
			return
		}
		r.once()
		timer.Reset(r.d.options.ReportEvery)
		select {
		case <-timer.C:
		case <-r.d.ctx.Done():
			return
		}
	}
}

func (r *reports) once() {
	r.mu.Lock()
	lanes := r.dirty
	r.dirty = map[*lane]struct{}{}
	r.mu.Unlock()
	r.d.mu.Lock()
	stopped := r.d.stopped
	r.d.mu.Unlock()
	if stopped {
		return // the rest is for other dispatchers to tell
	}
	var changed []Backlog
	for l := range lanes {
		b, ok := r.of(l)
		if !ok || b.Waiting+b.InFlight > 0 {
			r.changed(l) // look again, until there is nothing
		}
		last, known := r.last[b.Subscription]
		if !ok || known && last.Waiting == b.Waiting && last.InFlight == b.InFlight && last.Resting == b.Resting && last.Parallelism == b.Parallelism && last.URL == b.URL {
			continue
		}
		if b.Waiting+b.InFlight > 0 {
			r.last[b.Subscription] = b
		} else {
			delete(r.last, b.Subscription)
			if !known {
				continue
			}
		}
		changed = append(changed, b)
	}
	if len(changed) > 0 {
		r.d.options.Reporter.Report(changed)
	}
}

func (r *reports) of(l *lane) (Backlog, bool) {
	s := l.now.Load()
	b := Backlog{Subscription: s.Name, Owner: s.Owner, URL: s.Subscriber.URL, Parallelism: s.Parallelism, At: time.Now()}
	if l.ctx.Err() != nil {
		return b, true // it is served no more
	}
	ctx, cancel := context.WithTimeout(l.ctx, r.d.options.ReportEvery)
	defer cancel()
	got, err := r.d.options.Engine.Backlog(ctx, s.Topic, s.Name)
	if err != nil {
		return b, false
	}
	l.mu.Lock()
	share := l.share()
	if s.Ordered {
		b.Parallelism = min(b.Parallelism, max(len(l.keys), 1))
	}
	b.Resting = min(uint64(l.rests(b.At)), got.InFlight) //nolint:gosec // a length
	l.mu.Unlock()
	b.Waiting, b.InFlight = uint64(math.Ceil(float64(got.Waiting)*share)), got.InFlight
	return b, true
}

// restMost bounds the events of a lane that are known to rest; more count as in flight.
const restMost = 4096

// rest notes that an event is given back until its next attempt.
func (l *lane) rest(after time.Duration) {
	if l.d.report == nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.resting) >= restMost {
		l.awake(now)
	}
	if len(l.resting) < restMost {
		l.resting = append(l.resting, now.Add(after))
	}
}

// awake forgets those that are due. The mutex is held.
func (l *lane) awake(now time.Time) {
	l.resting = slices.DeleteFunc(l.resting, func(due time.Time) bool { return !due.After(now) })
	if len(l.resting) == 0 {
		l.resting = nil
	}
}

// rests is how many events wait for their next attempt. The mutex is held.
func (l *lane) rests(now time.Time) int {
	l.awake(now)
	n := len(l.resting)
	for _, it := range l.held { // those of an ordered lane stay here
		if it.wait != nil {
			n++
		}
	}
	return n
}
