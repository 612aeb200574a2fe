package memory

import (
	"sync"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// What a topic or a subscription gets that does not say.
const (
	ackWait     = 30 * time.Second
	maxInFlight = 1000
	duplicates  = 2 * time.Minute
	attributes  = 64 << 10 // bytes of an event's, at most
	overhead    = 64       // bytes an event costs beside its own
)

// Store has topics with their events. The zero Store is empty and ready.
type Store struct {
	mu     sync.Mutex
	topics map[string]*topic
}

// Open is one more process that uses the store.
func (s *Store) Open() *Engine { return &Engine{store: s} }

// New is an engine on a store of its own.
func New() *Engine { return new(Store).Open() }

type topic struct {
	engine.Topic
	gone          bool
	first         uint64 // sequence of events[0], or of the next one
	events        []stored
	bytes         int64
	subscriptions map[string]*subscription
	tails         chan struct{} // closed when something happened

	known  map[identity]uint64 // within the window, by sequence
	recent []seen              // the same by time
}

type stored struct {
	event *event.Event
	at    time.Time
	size  int64
}

type identity struct{ source, id string }

type seen struct {
	identity
	at time.Time
}

func (t *topic) last() uint64 { return t.first + uint64(len(t.events)) - 1 }

// changed has whoever waits look again.
func (t *topic) changed(now time.Time) {
	close(t.tails)
	t.tails = make(chan struct{})
	for _, s := range t.subscriptions {
		s.serve(now)
	}
}

func (t *topic) store(e *event.Event, now time.Time) (engine.Stored, error) {
	t.forget(now)
	who := identity{e.Source, e.ID}
	if sequence, is := t.known[who]; is {
		return engine.Stored{Sequence: sequence, Duplicate: true}, nil
	}
	n := int64(e.Size()) + overhead
	switch {
	case t.MaxEventBytes > 0 && n-overhead > int64(t.MaxEventBytes), n-int64(len(e.Data)) > attributes:
		return engine.Stored{}, engine.ErrTooLarge
	case t.MaxBytes > 0 && t.bytes+n > t.MaxBytes, t.MaxEvents > 0 && int64(len(t.events)) >= t.MaxEvents:
		return engine.Stored{}, engine.ErrFull
	}
	t.events = append(t.events, stored{e, now, n})
	t.bytes += n
	sequence := t.last()
	t.known[who] = sequence
	t.recent = append(t.recent, seen{who, now})
	t.changed(now)
	t.forget(now)
	return engine.Stored{Sequence: sequence}, nil
}

// forget drops what is too old, and what every subscription has.
func (t *topic) forget(now time.Time) {
	window := t.Duplicates
	if window <= 0 {
		window = duplicates
	}
	for len(t.recent) > 0 && now.Sub(t.recent[0].at) >= window {
		delete(t.known, t.recent[0].identity)
		t.recent = t.recent[1:]
	}
	for len(t.events) > 0 {
		old := t.MaxAge > 0 && now.Sub(t.events[0].at) >= t.MaxAge
		if !old && (t.KeepAll || t.wanted(t.first)) {
			return
		}
		for _, s := range t.subscriptions {
			s.next = max(s.next, t.first+1)
			if p := s.pending[t.first]; p != nil {
				s.take(p)
				delete(s.pending, t.first)
			}
		}
		t.bytes -= t.events[0].size
		t.events[0] = stored{}
		t.events = t.events[1:]
		t.first++
	}
}

func (t *topic) wanted(sequence uint64) bool {
	for _, s := range t.subscriptions {
		if s.next <= sequence || s.pending[sequence] != nil {
			return true
		}
	}
	return false
}
