package xds

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/log"
	resource "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// linear is go-control-plane's delta server over one LinearCache for each type, with the
// same clients on the same kind of connection as serve gives.
type linear struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	delta.Server
	caches map[string]*cache.LinearCache
	acks   chan string // the types
	dial   func() *grpc.ClientConn
}

func newLinear(b *testing.B, world map[string]map[string]types.Resource) *linear {
	l := &linear{caches: map[string]*cache.LinearCache{}, acks: make(chan string, 1024)}
	mux := &cache.MuxCache{Caches: map[string]cache.Cache{},
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() }}
	quiet := log.LoggerFuncs{}
	for url, resources := range world {
		l.caches[url] = cache.NewLinearCache(url, cache.WithInitialResources(resources), cache.WithLogger(quiet))
		mux.Caches[url] = l.caches[url]
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.Server = delta.NewServer(ctx, mux, l)
	g, listener := grpc.NewServer(GRPCOptions()...), bufconn.Listen(1<<20)
	discovery.RegisterAggregatedDiscoveryServiceServer(g, l)
	go func() { _ = g.Serve(listener) }()
	b.Cleanup(func() { cancel(); g.Stop() })
	l.dial = func() *grpc.ClientConn {
		c, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		return c
	}
	return l
}

// DeltaAggregatedResources serves all types on one stream.
func (l *linear) DeltaAggregatedResources(g discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return l.DeltaStreamHandler(g, resource.AnyType)
}

// OnDeltaStreamOpen does nothing, as the two after it.
func (l *linear) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }

// OnDeltaStreamClosed does nothing.
func (l *linear) OnDeltaStreamClosed(int64, *core.Node) {}

// OnStreamDeltaResponse does nothing.
func (l *linear) OnStreamDeltaResponse(int64, *discovery.DeltaDiscoveryRequest, *discovery.DeltaDiscoveryResponse) {
}

// OnStreamDeltaRequest notes the acknowledgements.
func (l *linear) OnStreamDeltaRequest(_ int64, r *discovery.DeltaDiscoveryRequest) error {
	if r.GetResponseNonce() != "" {
		l.acks <- r.GetTypeUrl()
	}
	return nil
}

// await n acknowledgements.
func (l *linear) await(b *testing.B, n int) {
	for range n {
		select {
		case <-l.acks:
		case <-b.Context().Done():
			b.Fatal(io.ErrUnexpectedEOF)
		}
	}
}

// benchmarkLinear makes the changes of BenchmarkChange in go-control-plane's LinearCache, for
// clients that have all scopes and 100 clusters with their endpoints and routes.
func benchmarkLinear(b *testing.B, services, streams int) {
	world := map[string]map[string]types.Resource{ClusterType: {}, EndpointType: {}, ScopeType: {}, RouteType: {}}
	for i := range services {
		n := fmt.Sprint(i)
		if i < loadedServices {
			world[ClusterType][n] = &cluster.Cluster{Name: n}
		}
		world[EndpointType][n] = endpointChange(n, "0")
		world[ScopeType][n] = scopeChange(n, "0")
		world[RouteType][n] = routeChange(n, "0")
	}
	l := newLinear(b, world)
	for i := range streams {
		g := open(b, l.dial(), fmt.Sprint(i))
		tell(b, g, &discovery.DeltaDiscoveryRequest{TypeUrl: ScopeType})
		tell(b, g, &discovery.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: loadedNames()})
		go obey(g)
	}
	l.await(b, 4*streams)
	version := 0
	for _, c := range []struct {
		what, url string
		make      func(name, version string) types.Resource
	}{
		{"endpoint", EndpointType, func(n, v string) types.Resource { return endpointChange(n, v) }},
		{"route", RouteType, func(n, v string) types.Resource { return routeChange(n, v) }},
		{"scope", ScopeType, func(n, v string) types.Resource { return scopeChange(n, v) }},
	} {
		b.Run(c.what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				version++
				name := fmt.Sprint(version % loadedServices)
				if err := l.caches[c.url].UpdateResource(name, c.make(name, fmt.Sprint(version))); err != nil {
					b.Fatal(err)
				}
				l.await(b, streams)
			}
		})
	}
}

func endpointChange(name, version string) *endpoint.ClusterLoadAssignment {
	return &endpoint.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpoint.Endpoint{version: {}}}
}

func routeChange(name, version string) *route.RouteConfiguration {
	return &route.RouteConfiguration{Name: name, InternalOnlyHeaders: []string{version}}
}

func scopeChange(name, version string) *route.ScopedRouteConfiguration {
	return &route.ScopedRouteConfiguration{Name: name, OnDemand: true, RouteConfigurationName: name + version}
}
