package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// serve runs a server on an in-memory listener and gives a connection to it.
func serve(t testing.TB, o Options) (*Server, func() *grpc.ClientConn) {
	t.Helper()
	o.Logger = quiet()
	s, g, l := New(o), grpc.NewServer(GRPCOptions()...), bufconn.Listen(1<<20)
	s.Register(g)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return s, func() *grpc.ClientConn {
		c, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

type adsClient = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

func open(t testing.TB, c *grpc.ClientConn, id string) adsClient {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	g, err := discovery.NewAggregatedDiscoveryServiceClient(c).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, g, &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: id, Cluster: "ebb-gateway"}, TypeUrl: ClusterType})
	return g
}

func tell(t testing.TB, g adsClient, req *discovery.DeltaDiscoveryRequest) {
	t.Helper()
	if err := g.Send(req); err != nil {
		t.Fatal(err)
	}
}

func recv(t testing.TB, g adsClient) *discovery.DeltaDiscoveryResponse {
	t.Helper()
	resp, err := g.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// obey acknowledges all that comes and asks for the endpoints of each cluster.
func obey(g adsClient) {
	for {
		resp, err := g.Recv()
		if err != nil {
			return
		}
		if g.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce}) != nil {
			return
		}
		if resp.TypeUrl == ClusterType && len(resp.Resources) > 0 {
			req := &discovery.DeltaDiscoveryRequest{TypeUrl: EndpointType}
			for _, r := range resp.Resources {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, r.Name)
			}
			if g.Send(req) != nil {
				return
			}
		}
	}
}

func TestStreamsWaitForOpen(t *testing.T) {
	s, dial := serve(t, Options{Metrics: prometheus.NewRegistry()})
	g := open(t, dial(), "g")
	got := make(chan *discovery.DeltaDiscoveryResponse, 1)
	go func() {
		if r, err := g.Recv(); err == nil {
			got <- r
		}
		close(got)
	}()
	s.Update([]*Resource{fake(Key{ClusterType, "c"}, "1")}, nil)
	select {
	case r := <-got:
		t.Fatalf("answered before the world was whole: %v", r)
	default:
	}
	s.Open()
	if r := <-got; len(r.GetResources()) != 1 {
		t.Errorf("answer: %v", r)
	}
}

// TestAwaitAndCallbacks goes once around: subscribe, acknowledge, await, state, close.
func TestAwaitAndCallbacks(t *testing.T) {
	subscribed := make(chan string, 10)
	changed := make(chan struct{}, 1)
	s, dial := serve(t, Options{
		OnSubscribe: func(u, n string, on bool) { subscribed <- fmt.Sprint(shortType(u), " ", n, " ", on) },
		OnState: func(string) {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	s.Open()
	k := Key{"type.googleapis.com/test.Thing", "n"}
	r := fake(k, "1")
	r.Owner = "o"
	s.Update([]*Resource{r}, nil)
	g := open(t, dial(), "g")
	if resp := recv(t, g); resp.TypeUrl != ClusterType {
		t.Fatalf("%v", resp)
	}
	tell(t, g, &discovery.DeltaDiscoveryRequest{TypeUrl: k.Type, ResourceNamesSubscribe: []string{"n"}})
	resp := recv(t, g)
	if x := <-subscribed; x != "Thing n true" {
		t.Errorf("told %q", x)
	}
	acked := make(chan error, 1)
	go func() { acked <- s.AwaitAcked(context.Background(), k) }()
	tell(t, g, &discovery.DeltaDiscoveryRequest{TypeUrl: k.Type, ResponseNonce: resp.Nonce})
	if err := <-acked; err != nil {
		t.Error(err)
	}
	r2 := fake(k, "2")
	r2.Owner = "o"
	s.Update([]*Resource{r2}, nil)
	resp = recv(t, g)
	if o := s.State("o"); o.Gateways != 1 || o.Pending != 1 {
		t.Errorf("state %+v", o)
	}
	tell(t, g, &discovery.DeltaDiscoveryRequest{TypeUrl: k.Type, ResponseNonce: resp.Nonce})
	for s.State("o").Pending != 0 {
		<-changed
	}
	unused := make(chan error, 1)
	go func() { unused <- s.AwaitUnused(context.Background(), k) }()
	_ = g.CloseSend()
	if err := <-unused; err != nil {
		t.Error(err)
	}
	if x := <-subscribed; x != "Thing n false" {
		t.Errorf("told %q", x)
	}
	g = open(t, dial(), "g")
	recv(t, g)
	s.Close()
	if _, err := g.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("closed: %v", err)
	}
}

func TestBounds(t *testing.T) {
	s, dial := serve(t, Options{MaxStreams: 1, MaxNames: 3})
	s.Open()
	g := open(t, dial(), "g")
	recv(t, g)
	if _, err := open(t, dial(), "h").Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("second stream: %v", err)
	}
	tell(t, g, &discovery.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: []string{"a", "b", "c", "d"}})
	if _, err := g.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("names: %v", err)
	}
	var none *RejectedError
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.AwaitAcked(ctx, Key{RouteType, "zz"}); errors.As(err, &none) || err != nil {
		t.Errorf("await of what nobody has: %v", err)
	}
	if len(s.kinds) > 0 && s.kinds[RouteType] != nil && s.kinds[RouteType].entries["zz"] != nil {
		t.Error("a name that was waited for is kept")
	}
}

// TestManyClients updates, awaits and disconnects from many goroutines, for the race detector.
func TestManyClients(t *testing.T) {
	s, dial := serve(t, Options{OnState: func(string) {}, OnSubscribe: func(string, string, bool) {}})
	s.Open()
	for i := range 8 {
		c := dial()
		g := open(t, c, fmt.Sprint(i))
		tell(t, g, &discovery.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: []string{"r0", "r1", "r2", "r3"}})
		go obey(g)
		if i%2 == 0 {
			defer func() { _ = c.Close() }()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 50 {
				n := fmt.Sprintf("%d-%d", w, i)
				r, c, e := fake(Key{RouteType, fmt.Sprintf("r%d", w)}, n), fake(Key{ClusterType, "c" + n}, n), fake(Key{EndpointType, "c" + n}, n)
				c.Lazy, c.Needs, r.Needs, r.Owner = true, []Key{e.Key}, []Key{c.Key}, r.Name
				s.Update([]*Resource{r, c, e}, nil)
				if err := s.AwaitAcked(ctx, r.Key); err != nil {
					t.Error(err)
					return
				}
				s.State(r.Name)
				s.Update(nil, []Key{c.Key, e.Key})
			}
			s.Streams()
		})
	}
	group.Wait()
}

// FuzzRequest feeds the request handler with whatever decodes.
func FuzzRequest(f *testing.F) {
	for _, r := range []*discovery.DeltaDiscoveryRequest{
		{TypeUrl: ClusterType},
		{TypeUrl: RouteType, ResourceNamesSubscribe: []string{"r", "*", ""}, InitialResourceVersions: map[string]string{"r": "1"}},
		{TypeUrl: EndpointType, ResponseNonce: "1", ResourceNamesUnsubscribe: []string{"c"}},
		{TypeUrl: ScopeType, ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := New(Options{Logger: quiet()})
		c, e, r, sc := fake(Key{ClusterType, "c"}, "1"), fake(Key{EndpointType, "c"}, "1"), fake(Key{RouteType, "r"}, "1"), fake(Key{ScopeType, "s"}, "1")
		c.Lazy, c.Needs, r.Needs, sc.Needs = true, []Key{e.Key}, []Key{c.Key}, []Key{r.Key}
		s.Update([]*Resource{c, e, r, sc}, nil)
		st, err := s.connect(nil, Other, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range [][]byte{a, b, a} {
			req := new(discovery.DeltaDiscoveryRequest)
			if proto.Unmarshal(raw, req) != nil {
				continue
			}
			if s.receive(st, req) != nil {
				break
			}
			for s.next(st) != nil { //nolint:revive // drained
			}
			checkInvariants(t, s)
		}
		s.disconnect(st)
	})
}
