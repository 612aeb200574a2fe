package xds

import (
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// GRPCOptions are what a gRPC server for this service should be made with: dead
// peers are noticed within 30 s, clients may ping every 5 s, and a reconnect with
// tens of thousands of names fits into one request.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(64 << 20),
	}
}

// DeltaAggregatedResources serves one stream until the client, the context or
// the server ends it.
func (s *Server) DeltaAggregatedResources(g discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	ctx := g.Context()
	req, err := g.Recv()
	if err != nil {
		return err
	}
	addr := ""
	if p, ok := peer.FromContext(ctx); ok {
		addr = p.Addr.String()
	}
	role, err := s.opts.Identify(ctx, req.GetNode())
	if err != nil {
		s.opts.Logger.Warn("xds: refused", "node", truncate(req.GetNode().GetId()), "peer", addr, "error", err)
		return err
	}
	select {
	case <-s.opened:
	case <-s.closed:
		return errClosed()
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	st, err := s.connect(req.GetNode(), role, addr)
	if err != nil {
		return err
	}
	defer s.disconnect(st)
	grace := time.AfterFunc(s.opts.ReconnectGrace, func() { s.grace(st) })
	defer grace.Stop()

	ended := make(chan error, 1)
	go func() {
		for {
			if err := s.receive(st, req); err != nil {
				ended <- err
				return
			}
			if req, err = g.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	for {
		for {
			resp := s.next(st)
			if resp == nil {
				break
			}
			if err := g.Send(resp); err != nil {
				return err
			}
		}
		select {
		case <-st.wake:
		case err := <-ended:
			if status.Code(err) != codes.Unknown {
				return err
			}
			return nil // the client's end of stream
		case <-s.closed:
			return errClosed()
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func errClosed() error {
	return status.Error(codes.Unavailable, "xds: this server is stopping; connect again")
}

// connect adds a stream. Only a few words of the node are kept: Envoy sends tens
// of kilobytes.
func (s *Server) connect(n *core.Node, role Role, addr string) (*stream, error) {
	st := &stream{s: s, node: n.GetId(), cluster: n.GetCluster(), peer: addr, role: role, since: time.Now(),
		wake: make(chan struct{}, 1), sent: map[string]*response{}, kept: map[*item]struct{}{}}
	s.mu.Lock()
	if len(s.streams) >= s.opts.MaxStreams {
		s.mu.Unlock()
		return nil, status.Errorf(codes.ResourceExhausted, "xds: %d streams are open already; raise MaxStreams or connect to another replica", s.opts.MaxStreams)
	}
	s.lastID++
	st.id = s.lastID
	s.streams[st] = struct{}{}
	if st.role == Gateway {
		s.gateways++
		s.notices.gateways()
	}
	s.metrics.streams.WithLabelValues(string(st.role)).Inc()
	s.mu.Unlock()
	s.notices.run()
	s.opts.Logger.Info("xds: connected", "node", st.node, "role", st.role, "peer", st.peer)
	return st, nil
}

func (s *Server) disconnect(st *stream) {
	s.mu.Lock()
	delete(s.streams, st)
	for _, c := range st.channels {
		delete(c.kind.wild, st)
		for it := range c.items {
			e := it.entry
			if it.pending() || it.rejected != nil {
				st.notify(it)
			}
			delete(e.items, st)
			if it.sub {
				if e.subs--; e.subs == 0 {
					s.notices.subscription(e.key, false)
				}
			}
			s.recheck(e)
			s.collect(e)
		}
	}
	for _, c := range st.channels {
		c.kind.users--
		s.collectKind(c.kind)
	}
	st.channels, st.dirty, st.sent, st.kept = nil, nil, nil, nil
	if st.role == Gateway {
		s.gateways--
		s.notices.gateways()
	}
	s.metrics.streams.WithLabelValues(string(st.role)).Dec()
	s.mu.Unlock()
	s.notices.run()
	s.opts.Logger.Info("xds: disconnected", "node", st.node, "role", st.role, "peer", st.peer)
}

func (s *Server) receive(st *stream, req *discovery.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	var err error
	if _, open := s.streams[st]; open {
		err = st.receive(req)
	}
	s.mu.Unlock()
	s.notices.run()
	st.poke()
	return err
}

func (s *Server) next(st *stream) *discovery.DeltaDiscoveryResponse {
	s.mu.Lock()
	resp := st.next()
	s.mu.Unlock()
	s.notices.run()
	return resp
}

// grace: the client has had time to say what it uses.
func (s *Server) grace(st *stream) {
	s.mu.Lock()
	if _, open := s.streams[st]; open {
		st.settleUse()
	}
	s.mu.Unlock()
	s.notices.run()
	st.poke()
}
