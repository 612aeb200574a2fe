package activator

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/trust"
)

// controlPlane is a control plane for tests, over real gRPC: it describes the
// revisions it was given to those who ask, and keeps the reports.
type controlPlane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	loadv3.UnimplementedLoadReportingServiceServer
	link.UnimplementedDrainServer
	link.UnimplementedMembershipServer

	address string
	server  *grpc.Server
	own     trust.Source // nil: plain text

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change of what follows
	revisions map[string]*link.Revision
	asked     map[string]bool // subscribed now
	initial   []map[string]string
	nacks     []string
	reports   []*endpointv3.ClusterStats
	drained   map[string]bool
	heard     []*link.FromActivator
	others    uint32 // activators, beside one that leaves
	silent    bool   // one that leaves gets no answer
	closing   chan struct{}
}

func startControlPlane(t testing.TB) *controlPlane { return startSecureControlPlane(t, nil) }

func startSecureControlPlane(t testing.TB, own trust.Source) *controlPlane {
	c := &controlPlane{
		own:     own,
		changed: make(chan struct{}), revisions: map[string]*link.Revision{}, asked: map[string]bool{}, drained: map[string]bool{},
	}
	c.start(t, "127.0.0.1:0")
	t.Cleanup(c.stop)
	return c
}

func (c *controlPlane) start(t testing.TB, address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.address = l.Addr().String()
	var options []grpc.ServerOption
	if c.own != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(trust.Server(c.own, []string{"h2"}, trust.Activator))))
	}
	c.server = grpc.NewServer(options...)
	c.closing = make(chan struct{})
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(c.server, c)
	loadv3.RegisterLoadReportingServiceServer(c.server, c)
	link.RegisterDrainServer(c.server, c)
	link.RegisterMembershipServer(c.server, c)
	go func() { _ = c.server.Serve(l) }()
}

func (c *controlPlane) stop() {
	close(c.closing)
	c.server.Stop()
}

// change alters the state under the lock and wakes all who wait for it.
func (c *controlPlane) change(f func()) {
	c.mu.Lock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}

// await blocks until the condition holds, which is checked at every change.
func (c *controlPlane) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		ok, changed := cond(), c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited 20 s for: %s", what)
		}
	}
}

func (c *controlPlane) set(r *link.Revision) {
	c.change(func() { c.revisions[r.GetCluster()] = proto.Clone(r).(*link.Revision) })
}

func version(r *link.Revision) string {
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	return fmt.Sprintf("%x", b)
}

func (c *controlPlane) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			r, err := s.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-s.Context().Done():
				return
			}
		}
	}()
	const absent = "absent"
	sent := map[string]string{} // subscribed name -> version
	nonce := 0
	for first := true; ; {
		c.mu.Lock()
		changed := c.changed
		res := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: link.RevisionType}
		for name, v := range sent {
			r := c.revisions[name]
			if r == nil {
				if v != absent {
					res.RemovedResources = append(res.RemovedResources, name)
					sent[name] = absent
				}
			} else if version(r) != v {
				body, _ := anypb.New(r)
				res.Resources = append(res.Resources, &discoveryv3.Resource{Name: name, Version: version(r), Resource: body})
				sent[name] = version(r)
			}
		}
		c.mu.Unlock()
		if len(res.Resources)+len(res.RemovedResources) > 0 {
			nonce++
			res.Nonce = fmt.Sprint(nonce)
			if err := s.Send(res); err != nil {
				return err
			}
		}
		select {
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			if first && (r.GetNode().GetCluster() != "ebb-activator" || len(r.GetResourceNamesSubscribe()) == 0) {
				return fmt.Errorf("bad first request %v", r)
			}
			c.change(func() {
				if first {
					c.initial = append(c.initial, r.GetInitialResourceVersions())
				}
				for _, n := range r.GetResourceNamesSubscribe() {
					sent[n] = r.GetInitialResourceVersions()[n]
					c.asked[n] = true
				}
				for _, n := range r.GetResourceNamesUnsubscribe() {
					delete(sent, n)
					delete(c.asked, n)
				}
				if d := r.GetErrorDetail(); d != nil {
					c.nacks = append(c.nacks, d.GetMessage())
				}
			})
			first = false
		case <-changed:
		case <-c.closing:
			return nil
		}
	}
}

func (c *controlPlane) StreamLoadStats(s loadv3.LoadReportingService_StreamLoadStatsServer) error {
	for first := true; ; first = false {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if first != (r.GetNode() != nil) {
			return fmt.Errorf("the node is in the first report only, got %v", r)
		}
		c.change(func() { c.reports = append(c.reports, r.GetClusterStats()...) })
		if err := s.Send(&loadv3.LoadStatsResponse{LoadReportingInterval: durationpb.New(20 * time.Millisecond)}); err != nil {
			return err
		}
	}
}

func (c *controlPlane) Await(ctx context.Context, r *link.AwaitRequest) (*link.AwaitResponse, error) {
	c.change(func() { c.asked["drain/"+r.GetNamespace()+"/"+r.GetRevision()] = true })
	for {
		c.mu.Lock()
		ok, changed := c.drained[r.GetNamespace()+"/"+r.GetRevision()], c.changed
		c.mu.Unlock()
		if ok {
			return &link.AwaitResponse{}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Join takes every activator, and lets it leave: there are c.others.
func (c *controlPlane) Join(s link.Membership_JoinServer) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		c.change(func() { c.heard = append(c.heard, m) })
		answer := &link.ToActivator{Joined: m.GetTold()}
		if m.GetLeaving() && !c.silent {
			answer.Left = &link.Left{Others: c.others}
		}
		if answer.Joined || answer.Left != nil {
			if err := s.Send(answer); err != nil {
				return err
			}
		}
	}
}

// reported returns the reports of a cluster so far.
func (c *controlPlane) reported(cluster string) []*endpointv3.ClusterStats {
	return slices.DeleteFunc(slices.Clone(c.reports), func(s *endpointv3.ClusterStats) bool { return s.GetClusterName() != cluster })
}

func inProgress(s *endpointv3.ClusterStats) uint64 {
	return s.GetUpstreamLocalityStats()[0].GetTotalRequestsInProgress()
}

// startActivator runs an activator against the control plane until the test ends.
func startActivator(t testing.TB, c *controlPlane, change ...func(*Options)) *Activator {
	t.Helper()
	o := Options{
		Name: "act-1", Listen: "127.0.0.1:0", DrainListen: "127.0.0.1:0", HealthListen: "127.0.0.1:0",
		ControlAddress: c.address, DrainWait: 300 * time.Millisecond, ShutdownGrace: 10 * time.Second,
		Logger: quiet(),
	}
	for _, f := range change {
		f(&o)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a
}
