package publish_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ebb.dev/ebb/proxy/xds"
)

// gateway behaves towards the discovery server as an Envoy does: it asks for
// clusters, listeners and scopes by wildcard, for what it is told to by name, for
// the endpoints of each cluster it gets, and acknowledges everything unless told not to.
type gateway struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

	mu      sync.Mutex
	has     map[xds.Key]*discovery.Resource
	changed chan struct{}
	hold    func(typeURL string) bool // do not answer
	refuse  func(typeURL string) string
	held    []*discovery.DeltaDiscoveryRequest
}

func connect(t *testing.T, server *xds.Server, configure ...func(*gateway)) *gateway {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(xds.GRPCOptions()...)
	server.Register(s)
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, stream: stream, has: map[xds.Key]*discovery.Resource{}, changed: make(chan struct{}, 1)}
	for _, c := range configure {
		c(g)
	}
	node := &core.Node{Id: "gateway-0", Cluster: "ebb-gateway"}
	for _, typeURL := range []string{xds.ClusterType, xds.ListenerType, xds.ScopeType} {
		g.send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: typeURL})
		node = nil
	}
	go g.receive()
	return g
}

func (g *gateway) send(r *discovery.DeltaDiscoveryRequest) {
	if err := g.stream.Send(r); err != nil && g.t.Context().Err() == nil {
		g.t.Errorf("send: %v", err)
	}
}

func (g *gateway) subscribe(typeURL string, names ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.send(&discovery.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

func (g *gateway) receive() {
	for {
		r, err := g.stream.Recv()
		if err != nil {
			return
		}
		g.mu.Lock()
		answer := &discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
		for _, resource := range r.Resources {
			key := xds.Key{Type: r.TypeUrl, Name: resource.Name}
			if _, known := g.has[key]; !known && r.TypeUrl == xds.ClusterType {
				g.send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.EndpointType, ResourceNamesSubscribe: []string{resource.Name}})
			}
			g.has[key] = resource
		}
		for _, name := range r.RemovedResources {
			delete(g.has, xds.Key{Type: r.TypeUrl, Name: name})
		}
		if g.refuse != nil && g.refuse(r.TypeUrl) != "" {
			answer.ErrorDetail = rejection(g.refuse(r.TypeUrl))
		}
		if g.hold != nil && g.hold(r.TypeUrl) {
			g.held = append(g.held, answer)
		} else {
			g.send(answer)
		}
		g.mu.Unlock()
		select {
		case g.changed <- struct{}{}:
		default:
		}
	}
}

// release sends the answers that were held back.
func (g *gateway) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = nil
	for _, answer := range g.held {
		g.send(answer)
	}
	g.held = nil
}

// names of a type that the gateway has, sorted, without those that are the way to the
// activators, which every gateway has from the start.
func (g *gateway) names(typeURL string) []string {
	return slices.DeleteFunc(g.all(typeURL), func(name string) bool {
		return strings.HasPrefix(name, "hold/") || strings.HasPrefix(name, "activator/")
	})
}

// all is names with the way to the activators.
func (g *gateway) all(typeURL string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for key := range g.has {
		if key.Type == typeURL {
			names = append(names, key.Name)
		}
	}
	slices.Sort(names)
	return names
}

// resource is what the gateway has under a name, as printed; nil when it has nothing.
func (g *gateway) resource(typeURL, name string) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.has[xds.Key{Type: typeURL, Name: name}]; r != nil {
		return r.Resource.Value
	}
	return nil
}

// endpoints of a cluster by priority: "address status".
func (g *gateway) endpoints(cluster string) (byPriority [2][]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	resource := g.has[xds.Key{Type: xds.EndpointType, Name: cluster}]
	if resource == nil {
		return byPriority
	}
	var cla endpoint.ClusterLoadAssignment
	if err := resource.Resource.UnmarshalTo(&cla); err != nil {
		g.t.Error(err)
	}
	for _, locality := range cla.Endpoints {
		for _, e := range locality.LbEndpoints {
			at := e.GetEndpoint().GetAddress()
			where := at.GetEnvoyInternalAddress().GetServerListenerName()
			if where == "" {
				where = net.JoinHostPort(at.GetSocketAddress().GetAddress(), "")
			}
			byPriority[locality.Priority] = append(byPriority[locality.Priority], where+" "+e.HealthStatus.String())
		}
	}
	return byPriority
}

// wait until the gateway has what is wanted.
func (g *gateway) wait(what string, done func() bool) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-g.changed:
		case <-tick.C:
		case <-ctx.Done():
			g.t.Fatalf("timed out waiting for: %s", what)
		}
	}
}
