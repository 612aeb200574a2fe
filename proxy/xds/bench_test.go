package xds

import (
	"context"
	"fmt"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// loadedServices is how many services each client of the benchmarks uses.
const loadedServices = 100

func loadedNames() []string {
	names := make([]string, loadedServices)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	return names
}

// BenchmarkChange is one change until all streams have acknowledged it, over
// gRPC in this process (clients included). Every stream has all scopes and has loaded 100
// services. The same change in go-control-plane's LinearCache, which knows no order, is beside it. It is to
// be flat in the number of services.
func BenchmarkChange(b *testing.B) {
	for _, services := range []int{100, 1000, 10_000} {
		for _, streams := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("services=%d/streams=%d", services, streams), func(b *testing.B) {
				b.Run("Server", func(b *testing.B) { benchmarkServer(b, services, streams) })
				b.Run("LinearCache", func(b *testing.B) { benchmarkLinear(b, services, streams) })
			})
		}
	}
}

func benchmarkServer(b *testing.B, services, streams int) {
	s, dial := serve(b, Options{})
	set := make([]*Resource, 0, 4*services)
	for i := range services {
		n := fmt.Sprint(i)
		c, e, r, sc := fake(Key{ClusterType, n}, "0"), fake(Key{EndpointType, n}, "0"), fake(Key{RouteType, n}, "0"), fake(Key{ScopeType, n}, "0")
		c.Lazy, c.Needs, r.Needs, r.Owner = true, []Key{e.Key}, []Key{c.Key}, n
		set = append(set, c, e, r, sc)
	}
	s.Update(set, nil)
	s.Open()
	for i := range streams {
		g := open(b, dial(), fmt.Sprint(i))
		tell(b, g, &discovery.DeltaDiscoveryRequest{TypeUrl: ScopeType})
		tell(b, g, &discovery.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: loadedNames()})
		go obey(g)
	}
	for ready := false; !ready; {
		ready = true
		all := s.Streams()
		for _, si := range all {
			for _, ti := range si.Types {
				ready = ready && (ti.Type != RouteType || ti.Acked == loadedServices) && (ti.Type != ScopeType || ti.Acked == services)
			}
			ready = ready && len(si.Types) == 4
		}
		ready = ready && len(all) == streams
	}
	version := 0
	for _, c := range []struct {
		what  string
		make  func(name, version string) proto.Message
		needs string
	}{
		{"endpoint", func(n, v string) proto.Message { return endpointChange(n, v) }, ""},
		{"route", func(n, v string) proto.Message { return routeChange(n, v) }, ClusterType},
		{"scope", func(n, v string) proto.Message { return scopeChange(n, v) }, ""},
	} {
		b.Run(c.what, func(b *testing.B) {
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				version++
				name := fmt.Sprint(version % loadedServices)
				o := []ResourceOption{WithOwner(name)}
				if c.needs != "" {
					o = append(o, WithNeeds(Key{c.needs, name}))
				}
				r, err := NewResource(name, c.make(name, fmt.Sprint(version)), o...)
				if err != nil {
					b.Fatal(err)
				}
				s.Update([]*Resource{r}, nil)
				if err := s.AwaitAcked(ctx, r.Key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
