package xds

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"pgregory.net/rapid"
)

// onDemand is a client that treats scopes as Envoy was measured to: the first
// request for a scope subscribes to its routes and waits for them in that scope; a scope that goes
// takes those who wait along, for ever; the last scope of loaded or loading routes ends the subscription.
type onDemand struct {
	st     *stream
	scopes map[string]*scopeState // by the name on the wire
	routes map[string]string      // loaded versions
	inbox  []*discovery.DeltaDiscoveryResponse
	outbox []*discovery.DeltaDiscoveryRequest
}

type scopeState struct {
	version, host, routes string
	started, loaded       bool
	waiting               int
}

// routesOf: scope "s<i>" leads to routes "r<i%2>".
func routesOf(scope string) string { return "r" + string('0'+(scope[1]-'0')%2) }

func (d *onDemand) connect(t *rapid.T, s *Server) {
	st, err := s.connect(&core.Node{Id: "d", Cluster: "ebb-gateway"}, Gateway, "")
	if err != nil {
		t.Fatal(err)
	}
	d.st, d.inbox, d.outbox = st, nil, nil
	have := map[string]string{}
	for name, sc := range d.scopes {
		have[name] = sc.version
	}
	d.outbox = append(d.outbox, &discovery.DeltaDiscoveryRequest{TypeUrl: ClusterType},
		&discovery.DeltaDiscoveryRequest{TypeUrl: ScopeType, InitialResourceVersions: have})
	if want := d.wanted(); len(want) > 0 {
		d.outbox = append(d.outbox, &discovery.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: want, InitialResourceVersions: maps.Clone(d.routes)})
	}
}

// wanted are the routes that some scope has begun to load.
func (d *onDemand) wanted() []string {
	var names []string
	for _, sc := range d.scopes {
		if sc.started && !slices.Contains(names, sc.routes) {
			names = append(names, sc.routes)
		}
	}
	slices.Sort(names)
	return names
}

// interest sends how the wanted routes changed; what changes back before it is sent
// is a subscription, or an end of one, that the server may know already.
func (d *onDemand) interest(before []string) {
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: RouteType}
	if n := len(d.outbox); n > 0 && d.outbox[n-1].TypeUrl == RouteType && d.outbox[n-1].ResponseNonce == "" {
		req, d.outbox = d.outbox[n-1], d.outbox[:n-1]
	}
	now := d.wanted()
	is := func(n string) func(string) bool { return func(o string) bool { return o == n } }
	for _, n := range now {
		if !slices.Contains(before, n) {
			req.ResourceNamesUnsubscribe = slices.DeleteFunc(req.ResourceNamesUnsubscribe, is(n))
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, n)
		}
	}
	for _, n := range before {
		if !slices.Contains(now, n) {
			req.ResourceNamesSubscribe = slices.DeleteFunc(req.ResourceNamesSubscribe, is(n))
			req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, n)
			delete(d.routes, n)
		}
	}
	if len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) > 0 {
		d.outbox = append(d.outbox, req)
	}
}

// request is a client's; it waits, or is answered at once, or there is no such host.
func (d *onDemand) request(host string) {
	for _, sc := range d.scopes {
		if sc.host != host || sc.loaded {
			continue
		}
		before := d.wanted()
		sc.started = true
		d.interest(before)
		if d.routes[sc.routes] != "" {
			sc.loaded = true
		} else {
			sc.waiting++
		}
	}
}

// apply takes the oldest response in. The answer goes out before or after what it makes the
// client ask for.
func (d *onDemand) apply(t *rapid.T) bool {
	if len(d.inbox) == 0 {
		return false
	}
	resp := d.inbox[0]
	d.inbox = d.inbox[1:]
	answer := &discovery.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce}
	first := rapid.Bool().Draw(t, "answer first")
	if first {
		d.outbox = append(d.outbox, answer)
	}
	switch resp.TypeUrl {
	case ScopeType:
		before := d.wanted()
		for _, name := range resp.RemovedResources {
			d.leave(t, name)
		}
		for _, r := range resp.Resources {
			if old := d.scopes[r.Name]; old != nil && old.version == r.Version {
				continue
			}
			base, _ := splitGeneration(r.Name)
			for name, sc := range d.scopes {
				if sc.host == base && name != r.Name {
					t.Fatalf("%s was added while %s has its key", r.Name, name)
				}
			}
			d.leave(t, r.Name)
			d.scopes[r.Name] = &scopeState{version: r.Version, host: base, routes: routesOf(base)}
		}
		d.interest(before)
	case RouteType:
		for _, r := range resp.Resources {
			if !slices.Contains(d.wanted(), r.Name) {
				continue
			}
			d.routes[r.Name] = r.Version
			for _, sc := range d.scopes {
				if sc.routes == r.Name && sc.started {
					sc.loaded, sc.waiting = true, 0
				}
			}
		}
	}
	if !first {
		d.outbox = append(d.outbox, answer)
	}
	return true
}

func (d *onDemand) leave(t *rapid.T, name string) {
	if sc := d.scopes[name]; sc != nil && sc.waiting > 0 {
		t.Fatalf("%s went while %d requests waited in it", name, sc.waiting)
	}
	delete(d.scopes, name)
}

func (d *onDemand) say(t *rapid.T) bool {
	if len(d.outbox) == 0 {
		return false
	}
	req := d.outbox[0]
	d.outbox = d.outbox[1:]
	if err := d.st.s.receive(d.st, req); err != nil {
		t.Fatal(err)
	}
	return true
}

func (d *onDemand) pull() bool {
	resp := d.st.s.next(d.st)
	if resp != nil {
		d.inbox = append(d.inbox, resp)
	}
	return resp != nil
}

// TestTakeBackProperties: whatever is taken back whenever, on whatever connection, no
// request is left waiting, no key is there twice, and at rest every scope is there once.
func TestTakeBackProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxInFlight: rapid.IntRange(1, 4).Draw(t, "in flight")})
		var world []*Resource
		count := 0
		update := func(name string) {
			count++
			r := fake(Key{RouteType, name}, fmt.Sprint(count))
			s.Update([]*Resource{r}, nil)
		}
		for i := range 4 {
			sc := fake(Key{ScopeType, fmt.Sprint("s", i)}, "1")
			sc.Needs = []Key{{RouteType, routesOf(sc.Name)}}
			world = append(world, sc)
		}
		s.Update(world, nil)
		update("r0")
		update("r1")
		d := &onDemand{scopes: map[string]*scopeState{}, routes: map[string]string{}}
		d.connect(t, s)
		small := rapid.IntRange(0, 3)
		t.Repeat(map[string]func(*rapid.T){
			"":          func(t *rapid.T) { checkInvariants(t, s) },
			"request":   func(t *rapid.T) { d.request(fmt.Sprint("s", small.Draw(t, "s"))) },
			"take back": func(t *rapid.T) { s.TakeBack(Key{RouteType, fmt.Sprint("r", small.Draw(t, "r")%2)}) },
			"update":    func(t *rapid.T) { update(fmt.Sprint("r", small.Draw(t, "r")%2)) },
			"pull":      func(*rapid.T) { d.pull() },
			"apply":     func(t *rapid.T) { d.apply(t) },
			"say":       func(t *rapid.T) { d.say(t) },
			"rest": func(t *rapid.T) {
				for d.pull() || d.apply(t) || d.say(t) {
				}
			},
			"reconnect": func(t *rapid.T) {
				s.disconnect(d.st)
				d.connect(t, s)
			},
		})
		for n := 0; d.pull() || d.apply(t) || d.say(t); n++ {
			if n > 10_000 {
				t.Fatal("the server does not come to rest")
			}
		}
		checkInvariants(t, s)
		if len(d.scopes) != len(world) {
			t.Fatalf("%d scopes, are to be %d", len(d.scopes), len(world))
		}
		for name, sc := range d.scopes {
			if sc.waiting > 0 {
				t.Fatalf("%d requests wait in %s", sc.waiting, name)
			}
		}
		for name, version := range d.routes {
			if cur := s.kinds[RouteType].entries[name].res; cur.Version != version {
				t.Fatalf("%s is %s, is to be %s", name, version, cur.Version)
			}
		}
	})
}

// TestGenerations: the name on the wire is the name in the message, and the way back is exact.
func TestGenerations(t *testing.T) {
	r, err := NewResource("route/a/x/external/a.test", &route.ScopedRouteConfiguration{Name: "route/a/x/external/a.test", OnDemand: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []uint32{0, 1, 17} {
		w := wireOf(r, g)
		var m route.ScopedRouteConfiguration
		if err := w.Resource.UnmarshalTo(&m); err != nil {
			t.Fatal(err)
		}
		if m.Name != w.Name || !m.OnDemand || w.Version != r.Version {
			t.Errorf("generation %d: %v as %v", g, &m, w)
		}
		if base, back := splitGeneration(w.Name); base != r.Name || back != g {
			t.Errorf("%s is generation %d of %s", w.Name, back, base)
		}
		if _, err := NewResource(w.Name, &m); (err != nil) != (g > 0) {
			t.Errorf("%s: %v", w.Name, err)
		}
	}
	for _, name := range []string{"", "~", "a~", "~1", "a~0", "a~01", "a~-1", "a~b", "a~99999999999", "a#1"} {
		if base, g := splitGeneration(name); base != name || g != 0 {
			t.Errorf("%q is generation %d of %q", name, g, base)
		}
	}
}
