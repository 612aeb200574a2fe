package intake

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	lrs "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

const deadline = 20 * time.Second

// record is a Sink that remembers.
type record struct {
	mu  sync.Mutex
	obs []Observation
	c   chan struct{}
}

func (r *record) Observe(obs []Observation) {
	r.mu.Lock()
	r.obs = append(r.obs, obs...)
	r.mu.Unlock()
	select {
	case r.c <- struct{}{}:
	default:
	}
}

// wait returns the first observation that matches.
func (r *record) wait(t *testing.T, what string, match func(Observation) bool) Observation {
	t.Helper()
	end := time.After(deadline)
	for {
		r.mu.Lock()
		i := slices.IndexFunc(r.obs, match)
		var o Observation
		if i >= 0 {
			o = r.obs[i]
		}
		r.mu.Unlock()
		if i >= 0 {
			return o
		}
		select {
		case <-r.c:
		case <-end:
			t.Fatalf("no observation: %s; have %+v", what, r.obs)
		}
	}
}

func serve(t *testing.T, opt Options) (*Server, *grpc.ClientConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(opt)
	g := grpc.NewServer()
	s.Register(g)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return s, conn
}

// reporter is the client's end: it answers every response with the report that is set.
type reporter struct {
	stream lrs.LoadReportingService_StreamLoadStatsClient
	cancel context.CancelFunc
	mu     sync.Mutex
	report []*endpoint.ClusterStats
	listed chan []string
}

func (r *reporter) set(stats ...*endpoint.ClusterStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report = stats
}

func connect(t *testing.T, conn *grpc.ClientConn, id, cluster string) *reporter {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := lrs.NewLoadReportingServiceClient(conn).StreamLoadStats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := &reporter{stream: stream, cancel: cancel, listed: make(chan []string, 1000)}
	n := &core.Node{Id: id, Cluster: cluster, Extensions: []*core.Extension{{Name: "an extension"}}}
	if err := stream.Send(&lrs.LoadStatsRequest{Node: n}); err != nil {
		t.Fatal(err)
	}
	messages := make(chan *lrs.LoadStatsResponse)
	go func() {
		defer close(messages)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			messages <- m
		}
	}()
	go func() {
		var timer <-chan time.Time
		for {
			select {
			case m, ok := <-messages:
				if !ok {
					return
				}
				// As Envoy: a response starts the timer anew.
				timer = time.After(m.LoadReportingInterval.AsDuration())
				select {
				case r.listed <- m.Clusters:
				default:
				}
			case <-timer:
				r.mu.Lock()
				req := &lrs.LoadStatsRequest{Node: n, ClusterStats: r.report}
				r.mu.Unlock()
				if stream.Send(req) != nil {
					return
				}
			}
		}
	}()
	return r
}

func (r *reporter) awaitList(t *testing.T, want ...string) {
	t.Helper()
	end := time.After(deadline)
	for {
		select {
		case got := <-r.listed:
			if slices.Equal(got, want) {
				return
			}
		case <-end:
			t.Fatalf("the list %v never came", want)
		}
	}
}

func stats(cluster string, priority uint32, pod string, inProgress, issued uint64) *endpoint.ClusterStats {
	a := netip.MustParseAddrPort(pod)
	return &endpoint.ClusterStats{
		ClusterName: cluster, LoadReportInterval: durationpb.New(100 * time.Millisecond),
		UpstreamLocalityStats: []*endpoint.UpstreamLocalityStats{{
			Priority: priority, TotalRequestsInProgress: inProgress, TotalIssuedRequests: issued,
			UpstreamEndpointStats: []*endpoint.UpstreamEndpointStats{{
				TotalRequestsInProgress: inProgress, TotalIssuedRequests: issued,
				Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
					Address: a.Addr().String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(a.Port())},
				}}},
			}},
		}},
	}
}

func TestReportsBecomeObservations(t *testing.T) {
	rec := &record{c: make(chan struct{}, 1)}
	used := make(chan string, 100)
	s, conn := serve(t, Options{Sink: rec, Used: func(c string) { used <- c }})
	s.Track("rev/a", true)
	g := connect(t, conn, "gw", "ebb-gateway")
	g.awaitList(t, "rev/a")
	s.Track("rev/b", true)
	g.awaitList(t, "rev/a", "rev/b")
	s.Track("rev/b", false)
	g.awaitList(t, "rev/a")

	pod := netip.MustParseAddrPort("10.0.0.1:8080")
	g.set(stats("rev/a", 0, pod.String(), 3, 5), stats("rev/direct-only", 1, "10.0.0.9:1", 7, 7))
	o := rec.wait(t, "rev/a", func(o Observation) bool { return o.Cluster == "rev/a" })
	if o.InFlight != 3 || o.Issued != 5 || o.Kind != Gateway || o.Reporter != "gw" || o.Concurrency < 0.29 || o.Concurrency > 0.31 {
		t.Errorf("observation %+v, want 3 in flight, 5 issued, 0.3 request·s", o)
	}
	if n, fresh := s.InFlight("rev/a", pod); n != 3 || !fresh {
		t.Errorf("InFlight %d %v, want 3 true", n, fresh)
	}
	select {
	case c := <-used:
		if c != "rev/a" {
			t.Errorf("used %q, want rev/a", c)
		}
	case <-time.After(deadline):
		t.Error("use was not told")
	}
	g.set()
	rec.wait(t, "zero", func(o Observation) bool { return o.Cluster == "rev/a" && o.InFlight == 0 })
	if slices.ContainsFunc(rec.obs, func(o Observation) bool { return o.Cluster == "rev/direct-only" }) {
		t.Error("priority 1 of a gateway was counted; the activator reports it too")
	}

	a := connect(t, conn, "act", NodeActivator)
	c := stats("rev/z", 0, "10.0.0.2:1", 4, 4)
	c.UpstreamLocalityStats[0].LoadMetricStats = []*endpoint.EndpointLoadMetricStats{{MetricName: concurrencyMetric, TotalMetricValue: 123}}
	a.set(c)
	o = rec.wait(t, "rev/z", func(o Observation) bool { return o.Cluster == "rev/z" })
	if o.Kind != Activator || o.Concurrency != 0.123 || o.InFlight != 4 {
		t.Errorf("observation %+v, want the exact integral 0.123", o)
	}
}

func TestAwaitIdle(t *testing.T) {
	rec := &record{c: make(chan struct{}, 1)}
	s, conn := serve(t, Options{Sink: rec, Settle: time.Millisecond})
	pod := netip.MustParseAddrPort("10.0.0.1:8080")
	g1, g2 := connect(t, conn, "g1", "ebb-gateway"), connect(t, conn, "g2", "ebb-gateway")
	a := connect(t, conn, "act", NodeActivator)
	a.set()
	g1.set(stats("c", 0, pod.String(), 1, 0))
	g2.set(stats("c", 0, "10.0.0.2:8080", 9, 1)) // another pod
	rec.wait(t, "busy", func(o Observation) bool { return o.Reporter == "g1" && o.InFlight == 1 })

	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := s.AwaitIdle(short, "c", []netip.AddrPort{pod}); !errors.Is(err, ErrNotIdle) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while busy: %v, want ErrNotIdle", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.AwaitIdle(t.Context(), "c", []netip.AddrPort{pod}) }()
	g1.awaitList(t, "c") // tracked while somebody waits
	g1.set()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(deadline):
		t.Fatal("idle, and nobody was told")
	}
}

func TestPokeNamesOnlySome(t *testing.T) {
	rec := &record{c: make(chan struct{}, 1)}
	s, conn := serve(t, Options{Sink: rec})
	pod := netip.MustParseAddrPort("10.0.0.1:8080")
	a := connect(t, conn, "act", NodeActivator)
	a.set(stats("c", 0, pod.String(), 2, 2))
	rec.wait(t, "c", func(o Observation) bool { return o.Cluster == "c" && o.InFlight == 2 })
	a.set(stats("other", 0, "10.0.0.7:8080", 1, 1))
	rec.wait(t, "other", func(o Observation) bool { return o.Cluster == "other" })
	if n, _ := s.InFlight("c", pod); n != 2 {
		t.Fatalf("in flight %d after a report about another cluster, want 2", n)
	}
	a.set(stats("c", 0, pod.String(), 0, 0))
	rec.wait(t, "zeros", func(o Observation) bool { return o.Cluster == "c" && o.InFlight == 0 })
	if n, _ := s.InFlight("c", pod); n != 0 {
		t.Fatalf("in flight %d after zeros", n)
	}
}

func TestLostReporter(t *testing.T) {
	rec := &record{c: make(chan struct{}, 1)}
	s, conn := serve(t, Options{Sink: rec, Forget: 200 * time.Millisecond})
	if _, missing := s.Sighted(); missing == "" {
		t.Error("sighted without a gateway")
	}
	connect(t, conn, "act", NodeActivator).set()
	pod := netip.MustParseAddrPort("10.0.0.1:8080")
	g := connect(t, conn, "g", "ebb-gateway")
	g.set(stats("c", 0, pod.String(), 2, 2))
	rec.wait(t, "busy", func(o Observation) bool { return o.InFlight == 2 })
	before, missing := s.Sighted()
	if missing != "" && !strings.Contains(missing, "activator") { // its first message may be on its way
		t.Errorf("with a gateway and an activator: %s", missing)
	}
	g.cancel()
	rec.wait(t, "lost", func(o Observation) bool { return o.Lost && o.Cluster == "c" && o.InFlight == 0 })
	if n, _ := s.InFlight("c", pod); n != 0 {
		t.Errorf("in flight %d after the reporter was forgotten", n)
	}
	if after, missing := s.Sighted(); !strings.Contains(missing, "gateway") || !after.After(before) {
		t.Errorf("after the gateway is gone: %q since %v, before %v", missing, after, before)
	}
	// It may only have lost its stream, and still have requests there.
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.AwaitIdle(short, "c", []netip.AddrPort{pod}); !errors.Is(err, ErrNotIdle) {
		t.Errorf("idle right after the gateway's stream ended: %v, want ErrNotIdle", err)
	}
}

// message is a report of n clusters, the first busy of them with load on two pods, with a node like Envoy's.
func message(n, busy int) []byte {
	req := &lrs.LoadStatsRequest{Node: &core.Node{Id: "g", Cluster: "ebb-gateway"}}
	for range 300 {
		req.Node.Extensions = append(req.Node.Extensions, &core.Extension{Name: "envoy.filters.http.something", Category: "envoy.filters.http", TypeUrls: []string{"envoy.extensions.filters.http.something.v3.Something"}})
	}
	for i := range n {
		name := "rev/default/service-" + string(rune('a'+i%26)) + "-" + time.Duration(i).String() + "/0b1c2d3e-0000-0000-0000-000000000000"
		c := &endpoint.ClusterStats{ClusterName: name, LoadReportInterval: durationpb.New(100 * time.Millisecond)}
		if i < busy {
			b := stats(name, 0, "10.0.0.1:8080", 2, 3)
			c.UpstreamLocalityStats = b.UpstreamLocalityStats
			c.UpstreamLocalityStats[0].UpstreamEndpointStats = append(c.UpstreamLocalityStats[0].UpstreamEndpointStats,
				stats(name, 0, "10.0.0.2:8080", 1, 1).UpstreamLocalityStats[0].UpstreamEndpointStats[0])
		}
		req.ClusterStats = append(req.ClusterStats, c)
	}
	b, _ := proto.Marshal(req)
	return b
}

type discard struct{}

func (discard) Observe([]Observation) {}

func newSession(s *Server) *session {
	sess := s.newSession()
	s.sessions[sess] = struct{}{}
	return sess
}

func BenchmarkReport(b *testing.B) {
	for _, c := range []struct {
		name    string
		n, busy int
	}{{"1000clusters/busy", 1000, 1000}, {"1000clusters/idle", 1000, 0}, {"1cluster", 1, 1}} {
		b.Run(c.name, func(b *testing.B) {
			sess := newSession(New(Options{Sink: discard{}}))
			msg := message(c.n, c.busy)
			now := time.Now()
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				now = now.Add(100 * time.Millisecond)
				if err := sess.report(msg, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzReport: no bytes crash the reader, and what it accepts it reads as the generated code does.
func FuzzReport(f *testing.F) {
	f.Add(message(3, 2))
	f.Add([]byte{0x12, 0x00})
	f.Fuzz(func(t *testing.T, msg []byte) {
		rec := &record{c: make(chan struct{}, 1)}
		sess := newSession(New(Options{Sink: rec}))
		var want lrs.LoadStatsRequest
		if sess.report(bytes.Clone(msg), time.Now()) != nil || proto.Unmarshal(msg, &want) != nil {
			return
		}
		issued := map[string]bool{}
		for _, c := range want.ClusterStats {
			issued[c.ClusterName] = true
		}
		for _, o := range rec.obs {
			if !issued[o.Cluster] {
				t.Errorf("cluster %q is not in the message", o.Cluster)
			}
			if o.Concurrency < 0 || o.InFlight < 0 || o.Issued < 0 {
				t.Errorf("negative load: %+v", o)
			}
		}
	})
}
