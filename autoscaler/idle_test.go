package autoscaler

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	lrs "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/autoscaler/window"
	"ebb.dev/ebb/proxy/ir"
)

// quiet is a Load, a Drainer and a Writer of revisions that nothing is done for.
type quiet struct{ since time.Time }

func (quiet) InFlight(string, netip.AddrPort) (int, bool)               { return 0, true }
func (quiet) AwaitIdle(context.Context, string, []netip.AddrPort) error { return nil }
func (q quiet) Sighted() (time.Time, string)                            { return q.since, "" }
func (quiet) Drain(string, string, []string)                            {}
func (quiet) AwaitDrained(context.Context, string, string) error        { return nil }
func (quiet) Scale(context.Context, string, string, int) error          { return nil }
func (quiet) DeletionCost(context.Context, string, string, int) error   { return nil }

func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdle is a second of the platform's life: 100 revisions with load, told of by a gateway ten times, and so many without, at zero
// or with one pod that min-scale keeps. Intake, windows, decisions and the timers are the real ones. cpu-ms/s is processor time for a second; it is to be the
// same in each row but for the names of idle clusters with pods, which Envoy's reports repeat. bytes/idle is the memory that an idle revision holds.
func BenchmarkIdle(b *testing.B) {
	const active = 100
	for _, tc := range []struct {
		idle, pods int
	}{{0, 0}, {900, 0}, {9_900, 0}, {900, 1}, {9_900, 1}} {
		b.Run(fmt.Sprintf("100active/%didle/%dpods", tc.idle, tc.pods), func(b *testing.B) {
			settings := Settings{
				Settings: decision.Settings{Target: 100, Utilization: 0.7, TargetBurstCapacity: 211, InitialScale: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2,
					PanicThreshold: 2, StableWindow: time.Minute, ScaleToZero: true, Metric: "concurrency"},
				Window: window.Shape{Stable: time.Minute, Panic: 6 * time.Second},
			}
			loads := intake.New(intake.Options{})
			s := New(Options{Load: quiet{time.Now().Add(-time.Hour)}, Drainer: quiet{}, Writer: quiet{}})
			loads.SetSink(s)
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = s.Start(ctx) }()
			defer func() { stop(); <-ended }()

			set := func(i, pods int) {
				r := Revision{Namespace: "default", Name: fmt.Sprintf("service-%05d-00001", i), UID: "0b1c2d3e-0000-0000-0000-000000000000", Settings: settings,
					Timeout: 5 * time.Minute, Reachable: true, Initialized: true, Replicas: pods}
				r.Settings.MinScale = pods
				for range pods {
					r.Pods = append(r.Pods, Pod{Name: r.Name + "-deployment-0123456789-abcde", Ready: true, Running: true, Addr: netip.MustParseAddrPort("10.0.0.1:8080")})
				}
				s.Set(r)
				if pods > 0 {
					loads.Track(ir.RevisionCluster(r.Namespace, r.Name, r.UID), true)
				}
			}
			for i := range active {
				set(i, 1)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for i := range tc.idle {
				set(active+i, tc.pods)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)

			gateway := newGateway(b, loads, active, tc.idle*tc.pods)
			used := processor(b)
			b.ReportAllocs()
			for b.Loop() {
				for range 10 {
					gateway.report()
				}
			}
			b.ReportMetric(float64(processor(b)-used)/1e6/float64(b.N), "cpu-ms/s")
			if tc.idle > 0 {
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(tc.idle), "bytes/idle")
			}
		})
	}
}

// gateway is the other end of a stream of reports, which costs little itself: the report is encoded once.
type gateway struct {
	b      *testing.B
	stream grpc.ClientStream
	msg    *emptypb.Empty
}

func newGateway(b *testing.B, loads *intake.Server, active, idle int) *gateway {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	loads.Register(server)
	go func() { _ = server.Serve(l) }()
	b.Cleanup(server.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	stream, err := conn.NewStream(b.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, lrs.LoadReportingService_StreamLoadStats_FullMethodName)
	if err != nil {
		b.Fatal(err)
	}
	report := &lrs.LoadStatsRequest{Node: &core.Node{Id: "gateway-0", Cluster: "ebb-gateway"}}
	for i := range active + idle {
		c := &endpoint.ClusterStats{ClusterName: ir.RevisionCluster("default", fmt.Sprintf("service-%05d-00001", i), "0b1c2d3e-0000-0000-0000-000000000000"),
			LoadReportInterval: durationpb.New(100 * time.Millisecond)}
		if i < active {
			c.UpstreamLocalityStats = []*endpoint.UpstreamLocalityStats{{TotalRequestsInProgress: 5, TotalIssuedRequests: 7,
				UpstreamEndpointStats: []*endpoint.UpstreamEndpointStats{{TotalRequestsInProgress: 5, TotalIssuedRequests: 7,
					Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{Address: "10.0.0.1",
						PortSpecifier: &core.SocketAddress_PortValue{PortValue: 8080}}}}}}}}
		}
		report.ClusterStats = append(report.ClusterStats, c)
	}
	bytes, err := proto.Marshal(report)
	if err != nil {
		b.Fatal(err)
	}
	g := &gateway{b: b, stream: stream, msg: &emptypb.Empty{}}
	g.msg.ProtoReflect().SetUnknown(bytes)
	g.report()
	return g
}

// report returns when it has been taken in and answered.
func (g *gateway) report() {
	if err := g.stream.SendMsg(g.msg); err != nil {
		g.b.Fatal(err)
	}
	if err := g.stream.RecvMsg(&emptypb.Empty{}); err != nil {
		g.b.Fatal(err)
	}
}
