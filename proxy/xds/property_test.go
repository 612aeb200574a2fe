package xds

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"pgregory.net/rapid"
)

// model is a client that applies responses as Envoy does, in the order they
// come, answers them whenever it likes, and subscribes to the endpoints of what
// clusters it has and to the routes it was told to.
type model struct {
	st      *stream
	has     map[Key]string // versions
	warm    map[string]bool
	needs   map[Key]map[string][]Key // of every version that ever was
	inbox   []*discovery.DeltaDiscoveryResponse
	asked   map[Key]bool
	answers []*discovery.DeltaDiscoveryRequest
}

func (m *model) say(t *rapid.T, req *discovery.DeltaDiscoveryRequest) {
	if err := m.st.s.receive(m.st, req); err != nil {
		t.Fatal(err)
	}
}

func (m *model) start(t *rapid.T, s *Server) {
	st, err := s.connect(&core.Node{Id: "m", Cluster: "ebb-gateway"}, Gateway, "")
	if err != nil {
		t.Fatal(err)
	}
	m.st, m.inbox, m.answers = st, nil, nil
	for _, u := range []string{ClusterType, EndpointType, ListenerType, ScopeType, RouteType} {
		req := &discovery.DeltaDiscoveryRequest{TypeUrl: u, InitialResourceVersions: map[string]string{}}
		for k, v := range m.has {
			if k.Type == u {
				req.InitialResourceVersions[k.Name] = v
			}
		}
		for k := range m.asked {
			if k.Type == u {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, k.Name)
			}
		}
		slices.Sort(req.ResourceNamesSubscribe)
		if len(req.ResourceNamesSubscribe) > 0 || rules(u).wildcard {
			m.say(t, req)
		}
	}
}

func (m *model) ask(t *rapid.T, k Key, on bool) {
	if m.asked[k] == on {
		return
	}
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: k.Type}
	if on {
		m.asked[k] = true
		req.ResourceNamesSubscribe = []string{k.Name}
	} else {
		delete(m.asked, k)
		delete(m.has, k)
		req.ResourceNamesUnsubscribe = []string{k.Name}
	}
	m.say(t, req)
}

// pull takes what the server sends.
func (m *model) pull(n int) {
	for ; n > 0; n-- {
		resp := m.st.s.next(m.st)
		if resp == nil {
			return
		}
		m.inbox = append(m.inbox, resp)
	}
}

// apply takes the oldest response in; bad versions end in "!".
func (m *model) apply(t *rapid.T) bool {
	if len(m.inbox) == 0 {
		return false
	}
	resp := m.inbox[0]
	m.inbox = m.inbox[1:]
	bad := ""
	for _, r := range resp.Resources {
		k := Key{resp.TypeUrl, r.Name}
		if r.Version[len(r.Version)-1] == '!' {
			bad += " " + r.Name + ": bad,"
			continue
		}
		switch k.Type {
		case ClusterType:
			if m.has[k] != r.Version {
				m.warm[k.Name] = m.has[k] != "" && m.warm[k.Name] // the old one serves while the new one warms
			}
		case EndpointType:
			if !m.asked[k] {
				continue
			}
			m.warm[k.Name] = true
		case RouteType:
			if !m.asked[k] {
				continue
			}
		}
		if k.Type == RouteType || k.Type == ListenerType {
			for _, n := range m.needs[k][r.Version] {
				if m.has[n] == "" || !m.warm[n.Name] {
					t.Fatalf("%v=%s arrived without %v", k, r.Version, n)
				}
			}
		}
		m.has[k] = r.Version
		if k.Type == ClusterType {
			m.ask(t, Key{EndpointType, k.Name}, true)
		}
	}
	for _, name := range resp.RemovedResources {
		k := Key{resp.TypeUrl, name}
		if k.Type == ClusterType {
			for user, v := range m.has {
				if (user.Type == RouteType || user.Type == ListenerType) && slices.Contains(m.needs[user][v], k) {
					t.Fatalf("%v was removed while %v=%s needs it", k, user, v)
				}
			}
			delete(m.warm, name)
			m.ask(t, Key{EndpointType, name}, false)
		}
		if !rules(k.Type).sticky {
			delete(m.has, k)
		}
	}
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce}
	if bad != "" {
		req.ErrorDetail = &rpcstatus.Status{Code: 13, Message: bad}
	}
	m.answers = append(m.answers, req)
	return true
}

func (m *model) answer(t *rapid.T) bool {
	if len(m.answers) == 0 {
		return false
	}
	req := m.answers[0]
	m.answers = m.answers[1:]
	m.say(t, req)
	return true
}

// TestProperties: at any time what the client has applied has what it needs, and
// when all is quiet it has exactly what it is to have.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxInFlight: rapid.IntRange(1, 4).Draw(t, "in flight"),
			MaxResponseBytes: rapid.SampledFrom([]int{1, 1 << 20}).Draw(t, "bytes"),
			Missing: func(u, n string) *Resource {
				if u == RouteType || u == EndpointType {
					return fake(Key{u, n}, "missing")
				}
				return nil
			}})
		m := &model{has: map[Key]string{}, warm: map[string]bool{}, needs: map[Key]map[string][]Key{}, asked: map[Key]bool{}}
		m.start(t, s)
		count := 0
		world := map[Key]*Resource{}
		update := func(set []*Resource, remove []Key) {
			for _, k := range remove {
				delete(world, k)
			}
			for _, r := range set {
				world[r.Key] = r
				if m.needs[r.Key] == nil {
					m.needs[r.Key] = map[string][]Key{}
				}
				m.needs[r.Key][r.Version] = r.Needs
			}
			s.Update(set, remove)
		}
		make := func(k Key, bad bool) *Resource {
			count++
			v := fmt.Sprint(count)
			if bad {
				v += "!"
			}
			return fake(k, v)
		}
		clusterOf := func(i int, bad bool) []*Resource {
			name := fmt.Sprintf("c%d", i)
			c, e := make(Key{ClusterType, name}, bad), make(Key{EndpointType, name}, false)
			c.Needs, c.Lazy = []Key{e.Key}, i%4 != 0
			return []*Resource{c, e}
		}
		routeOf := func(kind string, i int, to ...int) *Resource {
			r := make(Key{kind, fmt.Sprintf("r%d", i)}, false)
			for _, c := range to {
				r.Needs = append(r.Needs, Key{ClusterType, fmt.Sprintf("c%d", c)})
			}
			return r
		}
		small := rapid.IntRange(0, 5)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { checkInvariants(t, s) },
			"route": func(t *rapid.T) {
				update([]*Resource{routeOf(RouteType, small.Draw(t, "r"), small.Draw(t, "to"), small.Draw(t, "and"))}, nil)
			},
			"listener": func(t *rapid.T) { update([]*Resource{routeOf(ListenerType, 0, small.Draw(t, "to"))}, nil) },
			"cluster":  func(t *rapid.T) { update(clusterOf(small.Draw(t, "c"), rapid.IntRange(0, 4).Draw(t, "bad") == 0), nil) },
			"switch": func(t *rapid.T) {
				i := small.Draw(t, "c")
				old := fmt.Sprintf("c%d", (i+1)%6)
				update(append(clusterOf(i, false), routeOf(RouteType, small.Draw(t, "r"), i)), []Key{{ClusterType, old}, {EndpointType, old}})
			},
			"endpoints": func(t *rapid.T) {
				update([]*Resource{make(Key{EndpointType, fmt.Sprintf("c%d", small.Draw(t, "c"))}, false)}, nil)
			},
			"ask": func(t *rapid.T) {
				m.ask(t, Key{RouteType, fmt.Sprintf("r%d", small.Draw(t, "r"))}, rapid.Bool().Draw(t, "on"))
			},
			"pull":   func(t *rapid.T) { m.pull(rapid.IntRange(1, 5).Draw(t, "n")) },
			"apply":  func(t *rapid.T) { m.apply(t) },
			"answer": func(t *rapid.T) { m.answer(t) },
			"all": func(t *rapid.T) {
				for {
					m.pull(100)
					if !m.apply(t) && !m.answer(t) {
						return
					}
				}
			},
			"reconnect": func(t *rapid.T) {
				s.disconnect(m.st)
				// Clusters that were warming hold their subscription back until they are warm:
				// the model starts again only from a warm state.
				for k := range m.has {
					if k.Type == ClusterType && !m.warm[k.Name] {
						delete(m.has, k)
						delete(m.asked, Key{EndpointType, k.Name})
						delete(m.has, Key{EndpointType, k.Name})
					}
				}
				m.start(t, s)
			},
		})
		// Quiet: all is repaired and everything converges.
		for i := range 6 {
			update(clusterOf(i, false), nil)
		}
		s.grace(m.st)
		for n := 0; ; n++ {
			m.pull(100)
			if !m.apply(t) && !m.answer(t) {
				break
			}
			if n > 10_000 {
				t.Fatal("the server does not come to rest")
			}
		}
		checkInvariants(t, s)
		used := map[Key]bool{}
		for k, r := range world {
			if k.Type == RouteType && !m.asked[k] {
				continue
			}
			if k.Type == RouteType || k.Type == ListenerType {
				if m.has[k] != r.Version {
					t.Fatalf("%v: has %q, is to have %q", k, m.has[k], r.Version)
				}
				for _, n := range r.Needs {
					used[n] = true
				}
			}
		}
		for k, r := range world {
			if k.Type != ClusterType {
				continue
			}
			if want := used[k] || !r.Lazy; want != (m.has[k] != "") || want && m.has[k] != r.Version {
				t.Fatalf("%v: has %q, is to have %q (%v)", k, m.has[k], r.Version, want)
			}
		}
		if len(m.st.sent) != 0 {
			t.Fatalf("%d responses without an answer: %v", len(m.st.sent), slices.Sorted(maps.Keys(m.st.sent)))
		}
	})
}
