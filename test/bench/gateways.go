package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/trust"
)

// gateways are clients of delta ADS that do towards the control plane what an Envoy does,
// and nothing else: each asks for all clusters, listeners and scopes, for one Route's configuration, and
// for the endpoints of each cluster that it gets, and acknowledges everything.
type gateways struct {
	route  string // name of the route configuration
	cancel context.CancelFunc
	all    []*gateway
	group  sync.WaitGroup
}

type gateway struct {
	conn   *grpc.ClientConn
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

	mu    sync.Mutex
	at    time.Time // when the route configuration was acknowledged last
	err   error
	first chan struct{} // closed when it was for the first time
}

// gateways connects so many to the platform, and returns when each has the Route's configuration.
func (b *bench) gateways(ctx context.Context, n int, route string) (*gateways, error) {
	own := &trust.Files{Certificate: b.dir.PKI("mesh-gateway.crt"), Key: b.dir.PKI("mesh-gateway.key"), Authorities: b.dir.PKI("mesh-ca.crt")}
	if err := own.Check(); err != nil {
		return nil, err
	}
	return connectGateways(ctx, n, route, b.running.Control, credentials.NewTLS(trust.Client(own, trust.Controller)))
}

func connectGateways(ctx context.Context, n int, route, address string, transport credentials.TransportCredentials) (*gateways, error) {
	inner, cancel := context.WithCancel(ctx)
	g := &gateways{route: route, cancel: cancel}
	for i := range n {
		one, err := g.connect(inner, fmt.Sprintf("bench-gateway-%d", i), address, transport)
		if err != nil {
			g.close()
			return nil, err
		}
		g.all = append(g.all, one)
	}
	for i, one := range g.all {
		select {
		case <-one.first:
		case <-ctx.Done():
			g.close()
			return nil, ctx.Err()
		case <-time.After(patience):
			g.close()
			return nil, fmt.Errorf("gateway %d of %d did not get %s in %s", i, n, route, patience)
		}
	}
	return g, nil
}

func (g *gateways) connect(ctx context.Context, node, address string, transport credentials.TransportCredentials) (*gateway, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	one := &gateway{conn: conn, first: make(chan struct{})}
	if one.stream, err = discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	id := &core.Node{Id: node, Cluster: envoy.GatewayCluster}
	for _, request := range []*discovery.DeltaDiscoveryRequest{
		{Node: id, TypeUrl: xds.ClusterType}, {TypeUrl: xds.ListenerType}, {TypeUrl: xds.ScopeType},
		{TypeUrl: xds.RouteType, ResourceNamesSubscribe: []string{g.route}},
	} {
		if err := one.stream.Send(request); err != nil {
			conn.Close()
			return nil, err
		}
	}
	g.group.Go(func() {
		err := one.follow(g.route)
		one.mu.Lock()
		one.err = err
		one.mu.Unlock()
	})
	return one, nil
}

// follow acknowledges what comes until the stream ends.
func (one *gateway) follow(route string) error {
	known := map[string]bool{}
	for {
		r, err := one.stream.Recv()
		if err != nil {
			return err
		}
		if err := one.stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}); err != nil {
			return err
		}
		var clusters []string
		for _, resource := range r.Resources {
			switch {
			case r.TypeUrl == xds.ClusterType && !known[resource.Name]:
				known[resource.Name] = true
				clusters = append(clusters, resource.Name)
			case r.TypeUrl == xds.RouteType && resource.Name == route:
				one.mu.Lock()
				if one.at.IsZero() {
					close(one.first)
				}
				one.at = time.Now()
				one.mu.Unlock()
			}
		}
		if r.TypeUrl == xds.ClusterType {
			for _, name := range r.RemovedResources {
				delete(known, name)
			}
		}
		if len(clusters) > 0 {
			if err := one.stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.EndpointType, ResourceNamesSubscribe: clusters}); err != nil {
				return err
			}
		}
	}
}

// last is when the last of them acknowledged a change that was sent after began. Call it when the Route
// is Ready: all have then.
func (g *gateways) last(began time.Time) (time.Time, error) {
	var last time.Time
	for i, one := range g.all {
		one.mu.Lock()
		at, err := one.at, one.err
		one.mu.Unlock()
		if err != nil {
			return last, fmt.Errorf("gateway %d: %w", i, err)
		}
		if !at.After(began) {
			return last, fmt.Errorf("gateway %d got no change, and the Service is Ready", i)
		}
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}

func (g *gateways) close() {
	g.cancel()
	g.group.Wait()
	for _, one := range g.all {
		one.conn.Close()
	}
}
