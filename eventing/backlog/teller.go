package backlog

import (
	"context"
	"crypto/rand"
	"log/slog"
	"math"
	rng "math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"

	"ebb.dev/ebb/eventing/dispatcher"
	"ebb.dev/ebb/proxy/link"
)

// atOnce bounds the subscriptions in one message.
const atOnce = 1000

// Teller is a dispatcher.Reporter that keeps a stream to the leader. What changes while a message is on its way, or while there is
// no stream, is told once, as it is then.
type Teller struct {
	client  link.BacklogClient
	process string
	logger  *slog.Logger
	wake    chan struct{}

	mu      sync.Mutex
	state   map[string]*link.SubscriptionBacklog // of those that have something to do
	pending map[string]*link.SubscriptionBacklog // to be told
}

// New makes a Teller, which tells once Run runs.
func New(conn grpc.ClientConnInterface, logger *slog.Logger) *Teller {
	return &Teller{
		client: link.NewBacklogClient(conn), process: rand.Text()[:12], logger: logger, wake: make(chan struct{}, 1),
		state: map[string]*link.SubscriptionBacklog{}, pending: map[string]*link.SubscriptionBacklog{},
	}
}

// Report takes what has changed. It does not block.
func (t *Teller) Report(changed []dispatcher.Backlog) {
	t.mu.Lock()
	for _, b := range changed {
		m := &link.SubscriptionBacklog{
			Subscription: b.Subscription, Owner: b.Owner.Kind + " " + b.Owner.Namespace + "/" + b.Owner.Name, Url: b.URL,
			Waiting: b.Waiting, InFlight: b.InFlight, Resting: b.Resting, Parallelism: uint32(min(max(b.Parallelism, 0), math.MaxInt32)), //nolint:gosec // it fits
		}
		t.pending[b.Subscription] = m
		if b.Waiting+b.InFlight > 0 {
			t.state[b.Subscription] = m
		} else {
			delete(t.state, b.Subscription)
		}
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run keeps a stream until ctx ends.
func (t *Teller) Run(ctx context.Context) {
	for lost := false; ctx.Err() == nil; {
		joined, err := t.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if joined || !lost { // once each time
			t.logger.Warn("the autoscaler hears nothing of backlogs, trying again", "error", err)
		}
		lost = true
		// So that not all come back at once.
		pause := time.NewTimer(30*time.Millisecond + rng.N(270*time.Millisecond)) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func (t *Teller) stream(ctx context.Context) (joined bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := t.client.Tell(ctx)
	if err != nil {
		return false, err
	}
	all := t.all()
	for first := true; first || len(all) > 0; first = false {
		n := min(len(all), atOnce)
		message := &link.FromEventing{Backlogs: all[:n]}
		if first {
			message.Process = t.process
		}
		all = all[n:]
		message.Told = len(all) == 0
		if err := s.Send(message); err != nil {
			_, err = s.Recv() // it has the reason
			return false, err
		}
	}
	if _, err := s.Recv(); err != nil {
		return false, err
	}
	t.logger.Info("the autoscaler hears of backlogs")
	broken := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Recv(); err != nil {
				broken <- err
				return
			}
		}
	}()
	for {
		for {
			changed := t.next()
			if len(changed) == 0 {
				break
			}
			if err := s.Send(&link.FromEventing{Backlogs: changed}); err != nil {
				return true, <-broken
			}
		}
		select {
		case err := <-broken:
			return true, err
		case <-t.wake:
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
}

// all is everything that there is; what changes from now on is told after it.
func (t *Teller) all() []*link.SubscriptionBacklog {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.pending)
	out := make([]*link.SubscriptionBacklog, 0, len(t.state))
	for _, b := range t.state {
		out = append(out, b)
	}
	return out
}

// next is some of what is to be told.
func (t *Teller) next() []*link.SubscriptionBacklog {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*link.SubscriptionBacklog, 0, min(len(t.pending), atOnce))
	for name, b := range t.pending {
		if len(out) == atOnce {
			break
		}
		out = append(out, b)
		delete(t.pending, name)
	}
	return out
}
