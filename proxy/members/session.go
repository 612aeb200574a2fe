package members

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/link"
)

// session is one activator's stream.
type session struct {
	id   string
	wake chan struct{}
	end  chan error // capacity 1

	mu       sync.Mutex
	releases map[pod]uint64 // to be sent
	gone     *link.Left     // to be sent
}

type pod struct{ cluster, name string }

// session finds who is there; it must not take the lock that followers are called under.
func (r *Registry) session(id string) *session {
	s, _ := r.sessions.Load(id)
	found, _ := s.(*session)
	return found
}

// Join serves one activator until its stream ends.
func (r *Registry) Join(stream grpc.BidiStreamingServer[link.FromActivator, link.ToActivator]) error {
	ctx := stream.Context()
	if r.opts.Identify != nil {
		if err := r.opts.Identify(ctx); err != nil {
			return status.Errorf(codes.PermissionDenied, "join: %v", err)
		}
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	select {
	case <-r.ready:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	hello := first.GetHello()
	address, err := netip.ParseAddrPort(hello.GetAddress())
	switch {
	case !validName(hello.GetName()):
		return status.Errorf(codes.InvalidArgument, "join: name %q is not one: letters, digits, dots and dashes", hello.GetName())
	case hello.GetProcess() == "" || len(hello.GetProcess()) > 64:
		return status.Errorf(codes.InvalidArgument, "join: activator %s: process %q is not one: 1 to 64 letters", hello.GetName(), hello.GetProcess())
	case err != nil || address.Port() == 0 || address.Addr().IsUnspecified():
		return status.Errorf(codes.InvalidArgument, "join: activator %s: address %q is not the IP and port where gateways reach it", hello.GetName(), hello.GetAddress())
	}
	s := &session{id: hello.GetName() + "@" + hello.GetProcess(), wake: make(chan struct{}, 1), end: make(chan error, 1), releases: map[pod]uint64{}}
	if err := r.enlist(ctx, hello.GetName(), address); err != nil {
		return status.Errorf(codes.Unavailable, "join: activator %s: %v", hello.GetName(), err)
	}
	// What it has is known before anybody decides with it.
	if r.follower != nil {
		r.follower.Turn(hello.GetTurn())
	}
	for m, anew := first, true; ; anew = false {
		r.heard(s, m, true, anew)
		if m.GetTold() {
			break
		}
		if m, err = stream.Recv(); err != nil {
			return err
		}
	}
	if err := r.enter(s, hello.GetName(), address); err != nil {
		return status.Errorf(codes.Aborted, "join: activator %s: %v", hello.GetName(), err)
	}
	defer r.exit(s)
	r.heard(s, &link.FromActivator{}, true, false)
	if err := stream.Send(&link.ToActivator{Joined: true}); err != nil {
		return err
	}
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				s.finish(err)
				return
			}
			r.heard(s, m, false, false)
			if m.GetLeaving() {
				r.leaves(s)
			}
		}
	}()
	return s.serve(ctx, stream)
}

func (r *Registry) heard(s *session, m *link.FromActivator, found, anew bool) {
	if r.follower == nil {
		return
	}
	if len(m.GetShares()) > 0 || found {
		r.follower.Shares(s.id, m.GetShares(), found)
	}
	if len(m.GetWaiting()) > 0 || anew {
		r.follower.Waits(s.id, m.GetWaiting(), anew)
	}
}

func (s *session) serve(ctx context.Context, stream grpc.BidiStreamingServer[link.FromActivator, link.ToActivator]) error {
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case err := <-s.end:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-s.wake:
		}
		s.mu.Lock()
		m := &link.ToActivator{Left: s.gone}
		for p, turn := range s.releases {
			m.Releases = append(m.Releases, &link.Release{Cluster: p.cluster, Pod: p.name, Turn: turn})
		}
		clear(s.releases)
		s.gone = nil
		s.mu.Unlock()
		if m.Left == nil && len(m.Releases) == 0 {
			continue
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

func (s *session) release(releases []*link.Release) {
	s.mu.Lock()
	for _, x := range releases {
		p := pod{x.GetCluster(), x.GetPod()}
		s.releases[p] = max(s.releases[p], x.GetTurn())
	}
	s.mu.Unlock()
	s.poke()
}

func (s *session) left(others int) {
	s.mu.Lock()
	s.gone = &link.Left{Others: uint32(others)}
	s.mu.Unlock()
	s.poke()
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// replaced ends the session from this side.
func (s *session) replaced(err error) { s.finish(status.Error(codes.Aborted, err.Error())) }

func (s *session) finish(err error) {
	select {
	case s.end <- err:
	default:
	}
}
