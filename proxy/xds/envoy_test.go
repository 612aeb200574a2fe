package xds_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ondemand "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/envoytest"
)

// patience is a deadline for a machine with much else to do, never a measure.
const patience = 60 * time.Second

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func must(t testing.TB, r *xds.Resource, err error) *xds.Resource {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ads() *core.ConfigSource {
	return &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
}

func theListener(t testing.TB) *xds.Resource {
	t.Helper()
	m := &hcm.HttpConnectionManager{
		StatPrefix:    "in",
		StripPortMode: &hcm.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		HttpFilters: []*hcm.HttpFilter{
			{Name: "envoy.filters.http.on_demand", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(t, &ondemand.OnDemand{})}},
			{Name: "envoy.filters.http.router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(t, &router.Router{})}},
		},
		RouteSpecifier: &hcm.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcm.ScopedRoutes{
			Name: "sr",
			ScopeKeyBuilder: &hcm.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
				Type: &hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
					HeaderValueExtractor: &hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
						Name:        ":authority",
						ExtractType: &hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 0},
					}}}}},
			RdsConfigSource: ads(),
			ConfigSpecifier: &hcm.ScopedRoutes_ScopedRds{ScopedRds: &hcm.ScopedRds{ScopedRdsConfigSource: ads()}},
		}},
	}
	return must2(t)(xds.NewResource("in", &listener.Listener{
		Name: "in",
		Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &core.SocketAddress_PortValue{PortValue: 0}}}},
		FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
			Name: "http", ConfigType: &listener.Filter_TypedConfig{TypedConfig: pack(t, m)}}}}},
	}))
}

func must2(t testing.TB) func(*xds.Resource, error) *xds.Resource {
	return func(r *xds.Resource, err error) *xds.Resource { t.Helper(); return must(t, r, err) }
}

func theScope(t testing.TB, name, host, rc string) *xds.Resource {
	t.Helper()
	return must2(t)(xds.NewResource(name, &route.ScopedRouteConfiguration{
		Name: name, OnDemand: true, RouteConfigurationName: rc,
		Key: &route.ScopedRouteConfiguration_Key{Fragments: []*route.ScopedRouteConfiguration_Key_Fragment{{
			Type: &route.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: host}}}},
	}, xds.WithOwner(rc), xds.WithNeeds(xds.Key{Type: xds.RouteType, Name: rc})))
}

func theRoute(t testing.TB, name, to string) *xds.Resource {
	t.Helper()
	return must2(t)(xds.NewResource(name, &route.RouteConfiguration{
		Name: name, ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*route.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*route.Route{{
			Match:  &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
			Action: &route.Route_Route{Route: &route.RouteAction{ClusterSpecifier: &route.RouteAction_Cluster{Cluster: to}}},
		}}}},
	}, xds.WithOwner(name), xds.WithNeeds(xds.Key{Type: xds.ClusterType, Name: to})))
}

// theCluster is a lazy cluster and its endpoints.
func theCluster(t testing.TB, name string, to net.Addr) []*xds.Resource {
	t.Helper()
	c := &cluster.Cluster{
		Name: name, ConnectTimeout: durationpb.New(time.Second),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads()},
		CommonLbConfig:       &cluster.Cluster_CommonLbConfig{},
	}
	if to == nil {
		// Rejected: an EDS cluster cannot have a load balancer of its own inside.
		c.LbPolicy = cluster.Cluster_CLUSTER_PROVIDED
		to = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	}
	addr := to.(*net.TCPAddr)
	cla := &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{{
		LbEndpoints: []*endpoint.LbEndpoint{{HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
			Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
				Address: addr.IP.String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(addr.Port)}}}}}}}}}}}
	return []*xds.Resource{
		must2(t)(xds.NewResource(name, c, xds.AsLazy(), xds.WithOwner("cluster "+name), xds.WithNeeds(xds.Key{Type: xds.EndpointType, Name: name}))),
		must2(t)(xds.NewResource(name, cla)),
	}
}

func clusterKeys(name string) []xds.Key {
	return []xds.Key{{Type: xds.ClusterType, Name: name}, {Type: xds.EndpointType, Name: name}}
}

// missing is what a gateway gets for what does not exist: no route, no endpoint.
func missing(typeURL, name string) *xds.Resource {
	var m proto.Message
	switch typeURL {
	case xds.RouteType:
		m = &route.RouteConfiguration{Name: name}
	case xds.EndpointType:
		m = &endpoint.ClusterLoadAssignment{ClusterName: name}
	default:
		return nil
	}
	r, err := xds.NewResource(name, m)
	if err != nil {
		return nil
	}
	return r
}

// upstream answers its name to everything.
func upstream(t testing.TB, name string) net.Addr {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr()
}

// plane is a control plane that can be killed and started again at its address.
type plane struct {
	t     testing.TB
	addr  string
	world []*xds.Resource
	*xds.Server
	grpc *grpc.Server
	mute atomic.Bool // endpoints are lost on the way
}

func (p *plane) intercept(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	return h(srv, muted{ss, p})
}

type muted struct {
	grpc.ServerStream
	p *plane
}

func (m muted) SendMsg(x any) error {
	if m.p.mute.Load() && x.(*discovery.DeltaDiscoveryResponse).TypeUrl == xds.EndpointType {
		return nil
	}
	return m.ServerStream.SendMsg(x)
}

func (p *plane) start(o xds.Options) {
	p.t.Helper()
	if o.Missing == nil {
		o.Missing = missing
	}
	o.Logger = quiet()
	addr := p.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.Server, p.grpc = xds.New(o), grpc.NewServer(append(xds.GRPCOptions(), grpc.StreamInterceptor(p.intercept))...)
	p.Register(p.grpc)
	p.Update(p.world, nil)
	p.Open()
	g := p.grpc
	go func() { _ = g.Serve(l) }()
	p.t.Cleanup(g.Stop)
}

func (p *plane) kill() { p.Close(); p.grpc.Stop() }

func (p *plane) envoy(args ...string) (*envoytest.Envoy, netip.AddrPort) {
	p.t.Helper()
	host, port, _ := net.SplitHostPort(p.addr)
	e := envoytest.Start(p.t, []byte(fmt.Sprintf(`
node: {id: gw, cluster: ebb-gateway}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds, retry_policy: {retry_back_off: {base_interval: 0.05s, max_interval: 0.5s}}}}]
  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}
`, host, port)), args...)
	e.AwaitReady(p.t)
	return e, e.Listener(p.t, "in")
}

// ask makes one request; it gives the status and the body, or the error's text.
func ask(c *http.Client, to netip.AddrPort, host string) (int, string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+to.String()+"/", nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Host = host
	resp, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func client(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// load asks host at about 1,000 requests a second from 8 loops until stopped.
type load struct {
	stop         chan struct{}
	group        sync.WaitGroup
	asked, wrong atomic.Int64
	first        atomic.Pointer[string]
}

func startLoad(t testing.TB, to netip.AddrPort, host string) *load {
	l := &load{stop: make(chan struct{})}
	c := client(t)
	for range 8 {
		l.group.Go(func() {
			tick := time.NewTicker(8 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				l.asked.Add(1)
				if code, body := ask(c, to, host); code != 200 {
					l.wrong.Add(1)
					text := fmt.Sprintf("%d %s", code, body)
					l.first.CompareAndSwap(nil, &text)
				}
			}
		})
	}
	t.Cleanup(l.end)
	until(t, "the load", func() bool { return l.asked.Load() >= 8 }) // what follows may be over within a tick
	return l
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.group.Wait()
}

func (l *load) none(t testing.TB) {
	t.Helper()
	l.end()
	t.Logf("%d requests, %d failed", l.asked.Load(), l.wrong.Load())
	if p := l.first.Load(); p != nil {
		t.Errorf("%d of %d requests failed; the first: %s", l.wrong.Load(), l.asked.Load(), *p)
	}
	if l.asked.Load() == 0 {
		t.Error("no requests were made")
	}
}

// until polls a condition of another process.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func typeInfo(s *xds.Server, url string) xds.TypeInfo {
	for _, si := range s.Streams() {
		for _, ti := range si.Types {
			if ti.Type == url {
				return ti
			}
		}
	}
	return xds.TypeInfo{}
}

// TestEnvoyRouteChanges: 200 changes to new clusters under load, each old cluster
// deleted in the same update, and nothing fails.
func TestEnvoyRouteChanges(t *testing.T) {
	p := &plane{t: t}
	up := upstream(t, "a")
	p.world = append([]*xds.Resource{theListener(t), theScope(t, "s", "a.test", "r"), theRoute(t, "r", "c0")}, theCluster(t, "c0", up)...)
	p.start(xds.Options{})
	_, to := p.envoy()
	l := startLoad(t, to, "a.test")
	until(t, "the first request", func() bool { return typeInfo(p.Server, xds.RouteType).Acked == 1 })
	ctx := deadline(t)
	rk := xds.Key{Type: xds.RouteType, Name: "r"}
	begun := time.Now()
	for i := 1; i <= 200; i++ {
		old := fmt.Sprintf("c%d", i-1)
		p.Update(append(theCluster(t, fmt.Sprintf("c%d", i), up), theRoute(t, "r", fmt.Sprintf("c%d", i))), clusterKeys(old))
		if err := p.AwaitAcked(ctx, rk); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := p.AwaitUnused(ctx, clusterKeys(old)...); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%v a change", time.Since(begun)/200)
	l.none(t)
	if o := p.State("r"); o.Gateways != 1 || o.Pending != 0 || len(o.Rejected) != 0 {
		t.Errorf("state %+v", o)
	}
}

// TestEnvoyRestart: the control plane is killed and started again under load.
func TestEnvoyRestart(t *testing.T) {
	p := &plane{t: t}
	up := upstream(t, "a")
	p.world = append([]*xds.Resource{theListener(t), theScope(t, "s", "a.test", "r"), theRoute(t, "r", "c")}, theCluster(t, "c", up)...)
	p.start(xds.Options{})
	_, to := p.envoy()
	l := startLoad(t, to, "a.test")
	until(t, "the first request", func() bool { return typeInfo(p.Server, xds.RouteType).Acked == 1 })
	for range 3 {
		p.kill()
		p.start(xds.Options{})
		until(t, "Envoy to come back", func() bool {
			for _, url := range []string{xds.ClusterType, xds.EndpointType, xds.ListenerType, xds.ScopeType, xds.RouteType} {
				if ti := typeInfo(p.Server, url); ti.Acked != 1 || ti.Pending != 0 {
					return false
				}
			}
			return true
		})
		if n := p.Sent(); n != 0 {
			t.Errorf("%d responses after a restart of an unchanged world", n)
		}
	}
	// The route moves to another cluster while the control plane is down.
	p.kill()
	p.world = append([]*xds.Resource{theListener(t), theScope(t, "s", "a.test", "r"), theRoute(t, "r", "d")}, theCluster(t, "d", up)...)
	p.start(xds.Options{})
	until(t, "the move", func() bool {
		ti := typeInfo(p.Server, xds.ClusterType)
		return typeInfo(p.Server, xds.RouteType).Acked == 1 && ti.Acked == 1 && ti.Stale == 0
	})
	l.none(t)
}

// TestEnvoyRejection: a bad cluster is shown, its route answers something, all else goes on.
func TestEnvoyRejection(t *testing.T) {
	p := &plane{t: t}
	up := upstream(t, "a")
	p.world = append([]*xds.Resource{theListener(t),
		theScope(t, "s", "a.test", "r"), theRoute(t, "r", "c"),
		theScope(t, "s2", "bad.test", "rbad"), theRoute(t, "rbad", "cbad")}, theCluster(t, "c", up)...)
	p.world = append(p.world, theCluster(t, "cbad", nil)...)
	p.start(xds.Options{})
	_, to := p.envoy()
	c := client(t)
	if code, body := ask(c, to, "bad.test"); code != 404 {
		t.Errorf("the route of a rejected cluster answers %d %s", code, body)
	}
	if code, body := ask(c, to, "a.test"); code != 200 {
		t.Errorf("the other route answers %d %s", code, body)
	}
	o := p.State("rbad")
	if len(o.Rejected) != 1 || o.Rejected[0].Name != "cbad" || o.Rejected[0].Node != "gw" {
		t.Errorf("state of the route: %+v", o)
	}
	t.Log(o.Rejected)
	// A change of the good one to a bad cluster keeps the good one.
	l := startLoad(t, to, "a.test")
	p.Update([]*xds.Resource{theRoute(t, "r", "cbad")}, nil)
	if o := p.State("r"); len(o.Rejected) != 1 {
		t.Errorf("state of the changed route: %+v", o)
	}
	p.Update(theCluster(t, "c", upstream(t, "b")), nil)
	until(t, "the endpoints", func() bool { _, body := ask(c, to, "a.test"); return body == "b" })
	// Repaired.
	p.Update(theCluster(t, "cbad", upstream(t, "good")), nil)
	until(t, "the repair", func() bool { _, body := ask(c, to, "a.test"); return body == "good" })
	until(t, "the other repair", func() bool { _, body := ask(c, to, "bad.test"); return body == "good" })
	l.none(t)
	if o := p.State("r"); len(o.Rejected) != 0 {
		t.Errorf("state after the repair: %+v", o)
	}
}

// TestEnvoyActivation: 20 first requests at once for each of several services;
// unknown and incomplete ones are answered.
func TestEnvoyActivation(t *testing.T) {
	p := &plane{t: t}
	var subscribed sync.Map
	p.world = []*xds.Resource{theListener(t), theScope(t, "s-none", "none.test", "r-none"),
		theScope(t, "s-half", "half.test", "r-half"), theRoute(t, "r-half", "c-none")}
	for i := range 20 {
		name := fmt.Sprint(i)
		p.world = append(p.world, theScope(t, "s"+name, name+".test", "r"+name), theRoute(t, "r"+name, "c"+name))
		p.world = append(p.world, theCluster(t, "c"+name, upstream(t, name))...)
	}
	p.start(xds.Options{OnSubscribe: func(u, n string, on bool) { subscribed.Store(u+" "+n, on) }})
	_, to := p.envoy()
	if n := typeInfo(p.Server, xds.ClusterType).Acked; n != 0 {
		t.Errorf("%d clusters before anything was asked for", n)
	}
	c := client(t)
	var group sync.WaitGroup
	for i := range 20 {
		for range 20 {
			group.Go(func() {
				if code, body := ask(c, to, fmt.Sprintf("%d.test", i)); code != 200 || body != fmt.Sprint(i) {
					t.Errorf("service %d: %d %s", i, code, body)
				}
			})
		}
	}
	group.Wait()
	for _, host := range []string{"none.test", "half.test", "nobody.test"} {
		if code, body := ask(c, to, host); code != 404 {
			t.Errorf("%s: %d %s", host, code, body)
		}
	}
	until(t, "the subscription to be told", func() bool { v, ok := subscribed.Load(xds.RouteType + " r7"); return ok && v == true })
	// What was missing comes.
	p.Update(append(theCluster(t, "c-none", upstream(t, "late")), theRoute(t, "r-none", "c-none")), nil)
	for _, host := range []string{"none.test", "half.test"} {
		until(t, host, func() bool { code, _ := ask(c, to, host); return code == 200 })
	}
}

// TestEnvoyDeletion: a route is deleted, made again, deleted again.
func TestEnvoyDeletion(t *testing.T) {
	p := &plane{t: t}
	p.world = []*xds.Resource{theListener(t)}
	p.start(xds.Options{})
	_, to := p.envoy()
	c := client(t)
	ctx := deadline(t)
	for i := range 5 {
		name := fmt.Sprint("v", i)
		p.Update(append([]*xds.Resource{theScope(t, "s", "a.test", "r"), theRoute(t, "r", "c")}, theCluster(t, "c", upstream(t, name))...), nil)
		if err := p.AwaitAcked(ctx, xds.Key{Type: xds.ScopeType, Name: "s"}); err != nil {
			t.Fatal(err)
		}
		until(t, "the scope", func() bool { return p.State("r").Pending == 0 })
		if code, body := ask(c, to, "a.test"); code != 200 || body != name {
			t.Errorf("made: %d %s", code, body)
		}
		keys := append(clusterKeys("c"), xds.Key{Type: xds.ScopeType, Name: "s"}, xds.Key{Type: xds.RouteType, Name: "r"})
		p.Update(nil, keys)
		if err := p.AwaitUnused(ctx, keys...); err != nil {
			t.Fatalf("deleted: %v: %+v", err, p.Streams())
		}
		if code, _ := ask(c, to, "a.test"); code != 404 {
			t.Errorf("deleted: %d", code)
		}
	}
}

// TestEnvoyHalfSent: the server dies after it sent a changed cluster and before its
// endpoints. Envoy would let that cluster warm for ever.
func TestEnvoyHalfSent(t *testing.T) {
	p := &plane{t: t}
	p.world = append([]*xds.Resource{theListener(t), theScope(t, "s", "a.test", "r"), theRoute(t, "r", "c")}, theCluster(t, "c", upstream(t, "a"))...)
	p.start(xds.Options{})
	e, to := p.envoy()
	l := startLoad(t, to, "a.test")
	until(t, "the first request", func() bool { return typeInfo(p.Server, xds.RouteType).Acked == 1 })
	warming := func() string {
		resp, err := http.Get(e.Admin + "/stats?filter=cluster_manager.warming_clusters")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return strings.TrimSpace(string(b))
	}
	changed := theCluster(t, "c", upstream(t, "a"))
	changed[0] = must2(t)(xds.NewResource("c", &cluster.Cluster{
		Name: "c", ConnectTimeout: durationpb.New(2 * time.Second),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads()},
	}, xds.AsLazy(), xds.WithNeeds(xds.Key{Type: xds.EndpointType, Name: "c"})))
	changed[1] = p.world[4] // the endpoints are the same
	p.mute.Store(true)
	p.Update(changed, nil)
	until(t, "the cluster to warm", func() bool { return warming() == "cluster_manager.warming_clusters: 1" })
	p.kill()
	p.mute.Store(false)
	p.world = append(p.world[:3:3], changed...)
	p.start(xds.Options{})
	until(t, "the cluster to be warm", func() bool { return warming() == "cluster_manager.warming_clusters: 0" })
	until(t, "its acknowledgement", func() bool { return typeInfo(p.Server, xds.ClusterType).Acked == 1 })
	l.none(t)
}
