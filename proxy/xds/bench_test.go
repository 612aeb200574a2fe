package xds

import (
	"context"
	"fmt"
	"testing"

	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// BenchmarkChange is one change until all streams concerned have acknowledged
// it, over gRPC in this process (clients included). Every stream has all scopes
// and has loaded 100 services. It is to be flat in the number of services.
func BenchmarkChange(b *testing.B) {
	for _, services := range []int{100, 1000, 10_000} {
		for _, streams := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("services=%d/streams=%d", services, streams), func(b *testing.B) {
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
				names := make([]string, 100)
				loaded := make([]Key, 100)
				for i := range names {
					names[i] = fmt.Sprint(i)
					loaded[i] = Key{RouteType, names[i]}
				}
				for i := range streams {
					g := open(b, dial(), fmt.Sprint(i))
					tell(b, g, &discovery.DeltaDiscoveryRequest{TypeUrl: ScopeType})
					tell(b, g, &discovery.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: names})
					go obey(g)
				}
				ctx := context.Background()
				for ready := false; !ready; {
					ready = true
					for _, si := range s.Streams() {
						for _, ti := range si.Types {
							ready = ready && (ti.Type != RouteType || ti.Acked == 100) && (ti.Type != ScopeType || ti.Acked == services)
						}
						ready = ready && len(si.Types) == 4
					}
					ready = ready && len(s.Streams()) == streams
				}
				version := 0
				change := func(b *testing.B, make func(name, version string) *Resource) {
					b.ReportAllocs()
					for b.Loop() {
						version++
						r := make(fmt.Sprint(version%100), fmt.Sprint(version))
						s.Update([]*Resource{r}, nil)
						if err := s.AwaitAcked(ctx, r.Key); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.Run("endpoint", func(b *testing.B) {
					change(b, func(name, version string) *Resource {
						r, err := NewResource(name, &endpoint.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpoint.Endpoint{version: {}}})
						if err != nil {
							b.Fatal(err)
						}
						return r
					})
				})
				b.Run("route", func(b *testing.B) {
					change(b, func(name, version string) *Resource {
						r, err := NewResource(name, &route.RouteConfiguration{Name: name, InternalOnlyHeaders: []string{version}},
							WithOwner(name), WithNeeds(Key{ClusterType, name}))
						if err != nil {
							b.Fatal(err)
						}
						return r
					})
				})
			})
		}
	}
}
