package envoy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/envoytest"
	"ebb.dev/ebb/test/trusttest"
	"ebb.dev/ebb/trust"
)

// TestControlPlane starts Envoy with the real bootstrap against the real discovery
// server over mutual TLS: Routes are loaded when they are first asked for, and again after
// they were taken back.
func TestControlPlane(t *testing.T) {
	ca := trusttest.New(t)
	serverTLS := trust.Server(ca.Files(t, t.TempDir(), trust.Controller), []string{"h2"}, trust.Gateway)
	subscribed := make(chan string, 100)
	server := xds.New(xds.Options{OnSubscribe: func(_, name string, on bool) {
		subscribed <- fmt.Sprint(name, " ", on)
	}})
	t.Cleanup(server.Close)
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverTLS)))
	server.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)

	resource := func(name string, m proto.Message, err error, options ...xds.ResourceOption) *xds.Resource {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r, err := xds.NewResource(name, m, options...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var resources []*xds.Resource
	listener, err := envoy.Listener(ir.Listener{Name: "external", Address: netip.MustParseAddrPort("127.0.0.1:0"), Audience: ir.External})
	resources = append(resources, resource("external", listener, err))
	scopesOf := func(r ir.Route) []*xds.Resource {
		scopes, err := envoy.Scopes(r)
		if err != nil {
			t.Fatal(err)
		}
		var made []*xds.Resource
		for _, s := range scopes {
			made = append(made, resource(s.Name, s, nil, xds.WithNeeds(xds.Key{Type: xds.RouteType, Name: r.Name})))
		}
		return made
	}
	var routes []ir.Route
	for i := range 3 {
		name := fmt.Sprint("s", i)
		c := ir.RevisionCluster("default", name, "u")
		r := ir.Route{Name: "route/default/" + name + "/u", Hosts: []ir.VirtualHost{host(name, ir.Backend{Cluster: c, Weight: 100})}}
		routes = append(routes, r)
		cds, err := envoy.Cluster(ir.Cluster{Name: c, Protocol: ir.HTTP1})
		eds, errEDS := envoy.ClusterLoadAssignment(cluster{name: c, behind: pods(named(t, name))}.endpoints())
		endpoints := resource(c, eds, errEDS, xds.AsLazy())
		cl := resource(c, cds, err, xds.AsLazy(), xds.WithNeeds(endpoints.Key))
		rds, err := envoy.RouteConfiguration(r)
		resources = append(resources, endpoints, cl, resource(r.Name, rds, err, xds.AsLazy(), xds.WithNeeds(cl.Key)))
		resources = append(resources, scopesOf(r)...)
	}
	server.Update(resources, nil)
	server.Open()

	e := envoytest.Start(t, bootstrapOf(t, l.Addr().String(), ca.Files(t, t.TempDir(), trust.Gateway)))
	e.AwaitReady(t)
	gw := &gateway{Envoy: e, external: e.Listener(t, "external")}
	c := gw.client(t, gw.external)
	// The request that loads a Route may have a body of any size, which waits for the Route.
	for i, size := range []int{100 << 10, 20 << 20} {
		body := io.MultiReader(bytes.NewReader(make([]byte, size))) // without a length
		if a := ask(t, c, "POST", fmt.Sprintf("http://s%d.test/", i), body); a.status != 200 {
			t.Errorf("first request of s%d, with %d bytes: %d %q", i, size, a.status, a.body)
		}
	}
	// A host in other letters loads a Route too.
	if a := ask(t, c, "GET", "http://s2.test/", nil, "Host", "S2.Test:81"); a.status != 200 || a.body != "s2" {
		t.Errorf("first request of s2, in large letters: %d %q", a.status, a.body)
	}
	for range 2 {
		for i := range routes {
			want := fmt.Sprint("s", i)
			if a := ask(t, c, "GET", "http://"+want+".test/", nil); a.status != 200 || a.body != want {
				t.Fatalf("%s: %d %q", want, a.status, a.body)
			}
		}
	}
	// Taken back, and asked for again.
	for generation := range 5 {
		off := routes[0].Name + " false"
		retry := time.NewTicker(10 * time.Millisecond)
		defer retry.Stop()
		for deadline := time.After(30 * time.Second); ; {
			var change string
			select {
			case change = <-subscribed:
			case <-retry.C: // it is left alone while a change of it is unanswered
				server.TakeBack(xds.Key{Type: xds.RouteType, Name: routes[0].Name})
			case <-deadline:
				t.Fatalf("generation %d: Envoy did not let go of %s", generation, routes[0].Name)
			}
			if change == off {
				break
			}
		}
		if a := ask(t, c, "GET", "http://s0.test/", nil); a.status != 200 || a.body != "s0" {
			t.Fatalf("generation %d: %d %q", generation, a.status, a.body)
		}
	}
}
