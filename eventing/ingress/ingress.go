package ingress

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// Options of an ingress. Only Engine has to be given.
type Options struct {
	Engine engine.Engine

	Limits event.Limits // of a request's events; default event.DefaultLimits
	// MaxBodyBytes is the largest body of a request, of a batch above all; default 8 MiB.
	MaxBodyBytes int64
	// MaxConcurrent is how many requests are worked on at once, and MaxBufferedBytes what their
	// bodies may have in all; the rest is answered 503. Default 4096 and 256 MiB.
	MaxConcurrent    int
	MaxBufferedBytes int64
	// Timeout of storing the events of one request; default 30 s.
	Timeout time.Duration

	// Seen, when given, is called once for each new combination of topic, type, source and schema
	// of a stored event, and again when it was forgotten (SeenSize). It must not block.
	Seen     func(Seen)
	SeenSize int // combinations that are remembered; default 4096

	Logger *slog.Logger // default: none
}

// Ingress is an http.Handler.
type Ingress struct {
	o        Options
	topics   atomic.Pointer[map[plan.Address]*plan.Topic] // replaced, never changed
	mu       sync.Mutex                                   // of who replaces it
	metrics  *metrics
	slots    chan struct{}
	buffered atomic.Int64
	seen     *seenCache
	draining atomic.Bool
	inFlight sync.WaitGroup
	drain    sync.RWMutex // read-held from looking at draining to counting in inFlight
}

// New makes an ingress without topics.
func New(o Options) *Ingress {
	if o.Limits == (event.Limits{}) {
		o.Limits = event.DefaultLimits
	}
	o.MaxBodyBytes = fallback(o.MaxBodyBytes, 8<<20)
	o.MaxConcurrent = fallback(o.MaxConcurrent, 4096)
	o.MaxBufferedBytes = fallback(o.MaxBufferedBytes, 256<<20)
	o.Timeout = fallback(o.Timeout, 30*time.Second)
	o.SeenSize = fallback(o.SeenSize, 4096)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Ingress{o: o, metrics: newMetrics(), slots: make(chan struct{}, o.MaxConcurrent), seen: newSeenCache(o.SeenSize)}
	i.topics.Store(&map[plan.Address]*plan.Topic{})
	return i
}

func fallback[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// Set takes a topic in, in the place of one with its address.
func (i *Ingress) Set(t plan.Topic) {
	i.change(func(all map[plan.Address]*plan.Topic) { all[t.Address] = &t }, func(old *plan.Topic) bool { return old != nil && *old == t }, t.Address)
}

// Remove takes a topic away: its address is 404 from then on.
func (i *Ingress) Remove(a plan.Address) {
	i.change(func(all map[plan.Address]*plan.Topic) { delete(all, a) }, func(old *plan.Topic) bool { return old == nil }, a)
	i.metrics.forget(a)
}

func (i *Ingress) change(do func(map[plan.Address]*plan.Topic), done func(*plan.Topic) bool, a plan.Address) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old := *i.topics.Load()
	if done(old[a]) {
		return
	}
	all := make(map[plan.Address]*plan.Topic, len(old)+1)
	for k, v := range old {
		all[k] = v
	}
	do(all)
	i.topics.Store(&all)
}

// Drain refuses what comes from now on, with 503 and the connection closed, and returns when what is
// being stored has its answer, or ctx ends.
func (i *Ingress) Drain(ctx context.Context) error {
	i.drain.Lock()
	i.draining.Store(true)
	i.drain.Unlock()
	done := make(chan struct{})
	go func() { i.inFlight.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin is whether a request may be worked on; end is called behind it.
func (i *Ingress) begin() bool {
	i.drain.RLock()
	defer i.drain.RUnlock()
	if i.draining.Load() {
		return false
	}
	i.inFlight.Add(1)
	return true
}

// refusal is an answer other than 202.
type refusal struct {
	status int
	after  string // Retry-After, seconds
	reason string // one sentence, for the one who sent the event
	result string // for metrics
}

func (r *refusal) write(w http.ResponseWriter) {
	if r.after != "" {
		w.Header().Set("Retry-After", r.after)
	}
	http.Error(w, r.reason, r.status)
}

// ofEvent is the answer to an event that cannot be read.
func ofEvent(err error) *refusal {
	var large *event.TooLargeError
	if errors.As(err, &large) {
		return &refusal{http.StatusRequestEntityTooLarge, "", err.Error(), "too_large"}
	}
	return &refusal{http.StatusBadRequest, "", err.Error(), "invalid"}
}

// ofEngine is the answer when the engine did not store an event.
func ofEngine(err error) *refusal {
	switch {
	case errors.Is(err, engine.ErrNoTopic):
		return &refusal{http.StatusServiceUnavailable, "1", "the store of this broker or channel is not there: it is being made or deleted", "unavailable"}
	case errors.Is(err, engine.ErrFull):
		return &refusal{http.StatusTooManyRequests, "5", "the store is full until its subscribers have caught up", "full"}
	case errors.Is(err, engine.ErrTooLarge):
		return &refusal{http.StatusRequestEntityTooLarge, "", "the event is larger than this broker or channel takes", "too_large"}
	}
	return &refusal{http.StatusServiceUnavailable, "1", "the event could not be stored now; send it again, with the same id", "unavailable"}
}
