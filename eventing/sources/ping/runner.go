package ping

import (
	"container/heap"
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"ebb.dev/ebb/eventing/event"
)

// Bounds of what is made up for: ticks that nobody sent in time, since there was no leader.
const (
	MaxLate  = time.Hour
	MaxTicks = 100 // of one source; the latest
)

// Type is that of the events.
const Type = "dev.knative.sources.ping"

// Source is one PingSource.
type Source struct {
	UID, Namespace, Name string
	// Schedule as it is written, with its time zone: another text is another schedule.
	Schedule string
	// Next is the first tick after a time; zero: none.
	Next func(after time.Time) time.Time
	// After is the last tick that is done with; ticks after it are sent.
	After time.Time
	// Send sends the event of a tick; it returns when the sink has it, or an error when it gave up.
	Send func(ctx context.Context, e *event.Event) error

	ContentType string
	Data        []byte
	Extensions  map[string]string
}

// SourceOf is the events' source attribute.
func SourceOf(namespace, name string) string {
	return "/apis/v1/namespaces/" + namespace + "/pingsources/" + name
}

// Runner sends events at their ticks. Make it with NewRunner; it is safe for concurrent use.
type Runner struct {
	log *slog.Logger
	// done is told of a source whose ticks up to Last are done with. It may be nil.
	done func(uid, namespace, name string)

	mu      sync.Mutex
	sources map[string]*source
	queue   queue
	wake    chan struct{}
}

type source struct {
	Source
	next  time.Time
	index int // in the queue; -1: not there

	last    time.Time              // all ticks up to this are done with
	pending map[time.Time]struct{} // ticks that are being sent
	sent    time.Time              // the latest tick that was begun
}

// maxPending bounds the ticks of one source that are being sent at once: the next ones wait for a sink that hangs,
// and only those of that source do.
const maxPending = 8

// NewRunner makes a runner.
func NewRunner(log *slog.Logger, done func(uid, namespace, name string)) *Runner {
	return &Runner{log: log, done: done, sources: map[string]*source{}, wake: make(chan struct{}, 1)}
}

// Set adds a source or changes one; of one that has the same schedule as before, After is not looked at.
func (r *Runner) Set(s Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.sources[s.UID]
	if old != nil && old.Schedule == s.Schedule {
		old.Source = s
		return
	}
	next := &source{Source: s, index: -1, last: s.After, sent: s.After, pending: map[time.Time]struct{}{}}
	if old != nil {
		r.unqueue(old)
		next.last, next.sent = time.Now(), time.Now()
	}
	r.sources[s.UID] = next
	next.next = r.first(next, time.Now())
	r.enqueue(next)
}

// first skips ticks that are too late or too many to be made up for.
func (r *Runner) first(s *source, now time.Time) time.Time {
	after := s.sent
	if oldest := now.Add(-MaxLate); after.Before(oldest) {
		after = oldest
	}
	first := s.Next(after)
	// Twice the window is behind by as many ticks as there are in it; the pointers are one window apart.
	lead := first
	for range MaxTicks {
		if lead.IsZero() || lead.After(now) {
			return first
		}
		lead = s.Next(lead)
	}
	for !lead.IsZero() && !lead.After(now) {
		lead, first = s.Next(lead), s.Next(first)
	}
	r.log.Info("ticks are too many to be made up for", "pingsource", s.Namespace+"/"+s.Name, "from", first)
	return first
}

// Remove forgets a source; what is being sent is finished.
func (r *Runner) Remove(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sources[uid]; s != nil {
		r.unqueue(s)
		delete(r.sources, uid)
	}
}

// Last is the tick up to which all are done with; false for a source that is not here.
func (r *Runner) Last(uid string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sources[uid]; s != nil {
		return s.last, true
	}
	return time.Time{}, false
}

func (r *Runner) enqueue(s *source) {
	if s.next.IsZero() {
		return
	}
	heap.Push(&r.queue, s)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Runner) unqueue(s *source) {
	if s.index >= 0 {
		heap.Remove(&r.queue, s.index)
	}
}

// Run sends until ctx ends, and returns when nothing is being sent any more.
func (r *Runner) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		due, wait := r.due(time.Now())
		if due != nil {
			running.Go(func() { due(ctx) })
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// due takes the first tick whose time has come; nil: none, and how long to wait for one.
func (r *Runner) due(now time.Time) (send func(context.Context), wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil, time.Hour
	}
	s := r.queue[0]
	if s.next.After(now) {
		return nil, s.next.Sub(now)
	}
	tick := s.next
	s.sent, s.next = tick, s.Next(tick)
	s.pending[tick] = struct{}{}
	if s.next.IsZero() || len(s.pending) == maxPending {
		heap.Pop(&r.queue) // finish puts it back
	} else {
		heap.Fix(&r.queue, 0)
	}
	e, of := Event(&s.Source, tick), s.Source
	return func(ctx context.Context) {
		if err := of.Send(ctx, e); err != nil {
			if ctx.Err() != nil {
				return // the next leader sends it
			}
			r.log.Warn("a tick was not taken", "pingsource", of.Namespace+"/"+of.Name, "tick", tick, "error", err.Error())
		}
		r.finish(s, tick)
	}, 0
}

// finish notes a tick that is done with.
func (r *Runner) finish(s *source, tick time.Time) {
	r.mu.Lock()
	delete(s.pending, tick)
	last := s.sent
	for pending := range s.pending {
		if !pending.After(last) {
			last = pending.Add(-time.Nanosecond)
		}
	}
	if s.index < 0 && r.sources[s.UID] == s {
		r.enqueue(s)
	}
	moved := last.After(s.last)
	if moved {
		s.last = last
	}
	r.mu.Unlock()
	if moved && r.done != nil {
		r.done(s.UID, s.Namespace, s.Name)
	}
}

// Event is that of a tick.
func Event(s *Source, tick time.Time) *event.Event {
	e := &event.Event{
		ID: s.UID + "-" + strconv.FormatInt(tick.Unix(), 10), Source: SourceOf(s.Namespace, s.Name), Type: Type,
		Time: tick.UTC().Format(time.RFC3339), DataContentType: s.ContentType, Data: s.Data,
	}
	for name, value := range s.Extensions {
		e.SetExtension(name, value)
	}
	return e
}

// queue is sources by their next tick.
type queue []*source

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	s := x.(*source)
	s.index = len(*q)
	*q = append(*q, s)
}

func (q *queue) Pop() any {
	old := *q
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*q, s.index = old[:len(old)-1], -1
	return s
}
