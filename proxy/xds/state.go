package xds

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// OwnerState is what the gateways make of an owner's current resources.
type OwnerState struct {
	// Gateways that are connected.
	Gateways int
	// Pending is how many of them do not yet have all of it. A resource that a
	// gateway loads for the first time because it is asked for there does not
	// count; nor does a rejected one.
	Pending int
	// Rejected resources of the owner, and of others that the owner's wait for.
	Rejected []Rejection
}

// Rejection is one resource that one client refused.
type Rejection struct {
	Node, Type, Name string
	Message          string // the client's text, truncated
}

func (r Rejection) String() string {
	return fmt.Sprintf("%s rejected %s %s: %s", r.Node, shortType(r.Type), r.Name, r.Message)
}

// RejectedError is what AwaitAcked fails with.
type RejectedError struct{ Rejection }

func (e *RejectedError) Error() string { return e.String() }

// State counts over the gateway streams. It costs the owner's resources times
// the gateways.
func (s *Server) State(owner string) OwnerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := OwnerState{Gateways: s.gateways}
	pending := map[*stream]struct{}{}
	for e := range s.owners[owner] {
		if e.kind.wildcard && !e.res.Lazy {
			// A gateway that has only just connected has not asked for it yet.
			for st := range s.streams {
				if st.role == Gateway && e.items[st] == nil {
					pending[st] = struct{}{}
				}
			}
		}
		for st, it := range e.items {
			if st.role != Gateway {
				continue
			}
			if r, ok := it.rejection(st); ok {
				o.Rejected = append(o.Rejected, r)
			} else if it.pending() {
				pending[st] = struct{}{}
			}
		}
	}
	o.Pending = len(pending)
	o.Rejected = tidy(o.Rejected)
	return o
}

// tidy sorts and removes doubles.
func tidy(r []Rejection) []Rejection {
	slices.SortFunc(r, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(r)
}

// rejection is why the item's current version is not there.
func (it *item) rejection(st *stream) (Rejection, bool) {
	cur := it.entry.res
	if cur == nil || !it.active() {
		return Rejection{}, false
	}
	by := it
	if !it.refused(cur.Version) {
		if it.acked.here && it.acked.version == cur.Version {
			return Rejection{}, false
		}
		if _, _, by = st.obstacle(cur); by == nil {
			return Rejection{}, false
		}
	}
	return Rejection{Node: st.node, Type: by.entry.key.Type, Name: by.entry.key.Name, Message: by.rejected.message}, true
}

// pending: the client is to have a version that it does not have yet.
func (it *item) pending() bool {
	cur := it.entry.res
	if cur == nil || !it.active() || it.acked.here && it.acked.version == cur.Version {
		return false
	}
	if it.acked.here {
		return true
	}
	return it.channel.wild && !cur.Lazy
}

// AwaitAcked waits until each stream that has or may have an older version of
// one of the keys has acknowledged the current one, or is gone; for a key that
// was removed, until no stream has it any more. It returns a *RejectedError as
// soon as a stream rejects the current version, or the context's error.
func (s *Server) AwaitAcked(ctx context.Context, keys ...Key) error {
	return s.await(ctx, false, keys)
}

// AwaitUnused waits until no stream has, may have or asks for any version of the keys.
func (s *Server) AwaitUnused(ctx context.Context, keys ...Key) error {
	return s.await(ctx, true, keys)
}

type waiter struct {
	unused bool
	left   map[*entry]struct{}
	done   chan error // capacity 1
}

func (s *Server) await(ctx context.Context, unused bool, keys []Key) error {
	w := &waiter{unused: unused, left: map[*entry]struct{}{}, done: make(chan error, 1)}
	s.mu.Lock()
	for _, k := range keys {
		e := s.entry(k)
		if e.waiters == nil {
			e.waiters = map[*waiter]struct{}{}
		}
		e.waiters[w] = struct{}{}
		w.left[e] = struct{}{}
	}
	if len(keys) == 0 {
		w.done <- nil
	}
	for e := range w.left {
		s.recheck(e)
		s.collect(e)
	}
	s.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(w)
	select {
	case err := <-w.done:
		return err
	default:
		return ctx.Err()
	}
}

// release ends a waiter's interest.
func (s *Server) release(w *waiter) {
	for e := range w.left {
		delete(e.waiters, w)
		s.collect(e)
	}
	clear(w.left)
}

// recheck sees whether those who wait for an entry are served.
func (s *Server) recheck(e *entry) {
	for w := range e.waiters {
		met, err := e.met(w.unused)
		if err != nil {
			s.release(w)
			w.done <- err
			continue
		}
		if !met {
			continue
		}
		delete(e.waiters, w)
		delete(w.left, e)
		if len(w.left) == 0 {
			w.done <- nil
		}
	}
}

func (e *entry) met(unused bool) (bool, error) {
	met := true
	for st, it := range e.items {
		has := it.acked.here || len(it.flight) > 0
		switch {
		case unused:
			met = met && !has && !it.sub
		case e.res != nil && it.refused(e.res.Version):
			return false, &RejectedError{Rejection{st.node, e.key.Type, e.key.Name, it.rejected.message}}
		case !has || len(it.flight) == 0 && e.res != nil && it.acked.version == e.res.Version:
		default:
			met = false
		}
	}
	return met, nil
}

// StreamInfo is a snapshot of one stream, for people and for `ebb status`.
type StreamInfo struct {
	ID            uint64 // counts up
	Node, Cluster string
	Peer          string // address
	Role          Role
	Since         time.Time
	Types         []TypeInfo // in the order of sending
	Rejected      []Rejection
}

// TypeInfo counts one type on one stream.
type TypeInfo struct {
	Type       string
	Wildcard   bool
	Subscribed int // names
	Acked      int // resources that the client has in the current version
	Pending    int // to be sent, in flight, or waiting for what they need
	Stale      int // held in an older version
	InFlight   int // responses without an answer
}

// Streams is a snapshot of all open streams in the order they came. It costs
// all that they hold: for people, not for loops.
func (s *Server) Streams() []StreamInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]StreamInfo, 0, len(s.streams))
	for st := range s.streams {
		si := StreamInfo{ID: st.id, Node: st.node, Cluster: st.cluster, Peer: st.peer, Role: st.role, Since: st.since}
		for _, c := range st.channels {
			if !c.heard {
				continue
			}
			ti := TypeInfo{Type: c.kind.url, Wildcard: c.wild, InFlight: c.inFlight}
			for it := range c.items {
				if it.sub {
					ti.Subscribed++
				}
				cur := it.entry.res
				switch {
				case it.acked.here && cur != nil && it.acked.version == cur.Version:
					ti.Acked++
				case it.acked.here:
					ti.Stale++
				}
				if it.queued || it.blocked || len(it.flight) > 0 {
					ti.Pending++
				} else if _, ready := c.ready[it]; ready {
					ti.Pending++
				}
				if cur != nil && it.refused(cur.Version) {
					si.Rejected = append(si.Rejected, Rejection{st.node, c.kind.url, it.entry.key.Name, it.rejected.message})
				}
			}
			si.Types = append(si.Types, ti)
		}
		si.Rejected = tidy(si.Rejected)
		out = append(out, si)
	}
	slices.SortFunc(out, func(a, b StreamInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Sent is how many responses this server has sent so far.
func (s *Server) Sent() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.responses
}
