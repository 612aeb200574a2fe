package envoy_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
)

func benchmarkRoute(backends int) ir.Route {
	r := ir.Route{Name: "route/default/hello/r1", Owner: "Route/default/hello", Hosts: []ir.VirtualHost{{
		Name: "main",
		Domains: []ir.Domain{
			{Host: "hello.default", Audience: ir.Internal},
			{Host: "hello.default.svc", Audience: ir.Internal},
			{Host: "hello.default.svc.cluster.local", Audience: ir.Internal},
			{Host: "hello.default.example.com", Audience: ir.External},
		},
		Rules: []ir.Rule{{}},
	}}}
	for i := range backends {
		r.Hosts[0].Rules[0].Backends = append(r.Hosts[0].Rules[0].Backends, ir.Backend{
			Cluster:  fmt.Sprintf("rev/default/hello-%05d/a", i),
			Weight:   uint32(100 / backends),
			Timeouts: ir.Timeouts{Request: 5 * time.Minute, ResponseStart: 5 * time.Minute},
		})
	}
	return r
}

func BenchmarkRouteConfiguration(b *testing.B) {
	for _, n := range []int{1, 2, 10} {
		b.Run(fmt.Sprint(n, " backends"), func(b *testing.B) {
			r := benchmarkRoute(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := envoy.RouteConfiguration(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScopes(b *testing.B) {
	r := benchmarkRoute(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := envoy.Scopes(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCluster(b *testing.B) {
	c := ir.Cluster{Name: "rev/default/hello-00001/a", Protocol: ir.HTTP1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := envoy.Cluster(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClusterLoadAssignment(b *testing.B) {
	for _, n := range []int{0, 1, 100} {
		b.Run(fmt.Sprint(n, " pods"), func(b *testing.B) {
			e := ir.Endpoints{Cluster: "rev/default/hello-00001/a"}
			for i := range n {
				e.Priorities[0] = append(e.Priorities[0], ir.Endpoint{
					Name:    fmt.Sprint("pod-", i),
					Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 8080),
				})
			}
			e.Priorities[1] = []ir.Endpoint{{Name: "activator-0", Address: netip.MustParseAddrPort("10.9.0.1:8012")}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := envoy.ClusterLoadAssignment(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkListener(b *testing.B) {
	l := ir.Listener{Name: "external", Address: netip.MustParseAddrPort("0.0.0.0:80"), Audience: ir.External}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := envoy.Listener(l); err != nil {
			b.Fatal(err)
		}
	}
}
