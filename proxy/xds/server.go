package xds

import (
	"context"
	"log/slog"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// Role says what a client is: State counts gateways only.
type Role string

// The roles that DefaultRole tells apart.
const (
	Gateway   Role = "gateway"
	Activator Role = "activator"
	Other     Role = "other"
)

// DefaultRole goes by the node's cluster: ebb-gateway, ebb-activator.
func DefaultRole(n *core.Node) Role {
	switch n.GetCluster() {
	case "ebb-gateway":
		return Gateway
	case "ebb-activator":
		return Activator
	}
	return Other
}

// Options of a Server; the zero value works.
type Options struct {
	// OnState is called when State(owner) may have changed, one call at a time,
	// coalesced, never under a lock of the server. The owner "" means that a
	// gateway came or went, which concerns every owner.
	OnState func(owner string)
	// OnSubscribe is called when the first stream subscribes to a name (on) and
	// when the last one no longer does, one call at a time, in order per name, and
	// coalesced (on-off-on may be one call). Wildcards are not told.
	OnSubscribe func(typeURL, name string, on bool)
	// Missing gives the answer for a name that was asked for and that does not
	// exist, or that cannot be sent because it or what it needs was rejected. Nil,
	// or a nil answer: nothing is sent for the types whose removal Envoy
	// ignores (EDS, RDS, SDS), removed_resources for the others. It is called
	// under the server's lock: it must be quick and must not call the server.
	Missing func(typeURL, name string) *Resource
	// Identify says what a client is, by the context of its call and the node that it sent, or
	// refuses it; DefaultRole if nil.
	Identify func(context.Context, *core.Node) (Role, error)
	// MayAsk says whether clients of a role may subscribe to a type; a stream that asks for
	// another one ends. All may ask for all if nil.
	MayAsk func(Role, string) bool
	// Logger; slog.Default() if nil.
	Logger *slog.Logger
	// Metrics is where the collectors are registered; nil for nowhere.
	Metrics prometheus.Registerer

	// MaxStreams that may be open at once; more are refused. Default 1,000.
	MaxStreams int
	// MaxNames that one stream may subscribe to or list as held. Default 500,000.
	MaxNames int
	// MaxResponseBytes of one response, but for two cases in which the client has
	// to see all at once: the first answer to a wildcard subscription, and
	// responses that also remove. Those are bounded by 32 times as much. Default 1 MiB.
	MaxResponseBytes int
	// MaxInFlight responses per type and stream without an answer; beyond that
	// changes are coalesced. Default 100.
	MaxInFlight int
	// ReconnectGrace is how long after a reconnect clusters that nobody is seen
	// to need are kept, unless the client has told what it uses before. Default 10 s.
	ReconnectGrace time.Duration
}

func (o *Options) defaults() {
	if o.Identify == nil {
		o.Identify = func(_ context.Context, n *core.Node) (Role, error) { return DefaultRole(n), nil }
	}
	if o.MayAsk == nil {
		o.MayAsk = func(Role, string) bool { return true }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 1000
	}
	if o.MaxNames == 0 {
		o.MaxNames = 500_000
	}
	if o.MaxResponseBytes == 0 {
		o.MaxResponseBytes = 1 << 20
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 100
	}
	if o.ReconnectGrace == 0 {
		o.ReconnectGrace = 10 * time.Second
	}
}

// Server is a delta ADS server. All methods may be called from several
// goroutines.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	opts    Options
	metrics *metrics

	opened, closed      chan struct{}
	openOnce, closeOnce sync.Once
	notices             notices

	mu        sync.Mutex
	kinds     map[string]*kind
	owners    map[string]map[*entry]struct{}
	streams   map[*stream]struct{}
	gateways  int
	lastID    uint64
	responses uint64
}

// New makes a Server. It starts nothing: goroutines belong to streams.
func New(o Options) *Server {
	o.defaults()
	s := &Server{
		opts:    o,
		metrics: newMetrics(o.Metrics),
		opened:  make(chan struct{}),
		closed:  make(chan struct{}),
		kinds:   map[string]*kind{},
		owners:  map[string]map[*entry]struct{}{},
		streams: map[*stream]struct{}{},
	}
	s.notices.onState, s.notices.onSubscribe = o.OnState, o.OnSubscribe
	return s
}

// Register adds the aggregated discovery service to g, which should have been
// made with GRPCOptions.
func (s *Server) Register(g *grpc.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// Open lets streams go: until then they are accepted and wait, because a
// client that is answered from half a world would drop the other half.
func (s *Server) Open() { s.openOnce.Do(func() { close(s.opened) }) }

// Close ends all streams; clients reconnect elsewhere or later.
func (s *Server) Close() { s.closeOnce.Do(func() { close(s.closed) }) }

// Update replaces and removes resources in one step: a stream never sees a part
// of it without the order rules having asked for that. It never blocks on I/O
// and costs the change. Removing what does not exist is fine; a key both set
// and removed is set.
func (s *Server) Update(set []*Resource, remove []Key) {
	s.mu.Lock()
	woken := map[*stream]struct{}{}
	var again map[Key]struct{}
	if len(set) > 0 && len(remove) > 0 {
		again = make(map[Key]struct{}, len(set))
		for _, r := range set {
			again[r.Key] = struct{}{}
		}
	}
	for _, k := range remove {
		if _, ok := again[k]; ok {
			continue
		}
		kd := s.kinds[k.Type]
		if kd == nil || kd.entries[k.Name] == nil || kd.entries[k.Name].res == nil {
			continue
		}
		s.replace(kd.entries[k.Name], nil, woken)
	}
	for _, r := range set {
		s.replace(s.entry(r.Key), r.sealed(), woken)
	}
	for st := range woken {
		st.poke()
	}
	s.mu.Unlock()
	s.notices.run()
}

// replace makes r the current resource of e, or none.
func (s *Server) replace(e *entry, r *Resource, woken map[*stream]struct{}) {
	old := e.res
	if old.same(r) {
		return
	}
	if old != nil {
		s.disown(old.Owner, e)
		s.notices.state(old.Owner)
	}
	e.res = r
	if r != nil {
		s.own(r.Owner, e)
		s.notices.state(r.Owner)
	}
	for st, it := range e.items {
		st.touch(it)
		woken[st] = struct{}{}
	}
	if r != nil && !r.Lazy {
		for st := range e.kind.wild {
			if e.items[st] == nil {
				st.touch(st.item(e))
				woken[st] = struct{}{}
			}
		}
	}
	s.recheck(e)
	s.collect(e)
}

func (s *Server) own(owner string, e *entry) {
	if owner == "" {
		return
	}
	m := s.owners[owner]
	if m == nil {
		m = map[*entry]struct{}{}
		s.owners[owner] = m
	}
	m[e] = struct{}{}
}

func (s *Server) disown(owner string, e *entry) {
	if m := s.owners[owner]; m != nil {
		delete(m, e)
		if len(m) == 0 {
			delete(s.owners, owner)
		}
	}
}

func (s *Server) kind(url string) *kind {
	k := s.kinds[url]
	if k == nil {
		k = &kind{url: url, rule: rules(url), entries: map[string]*entry{}, wild: map[*stream]struct{}{}}
		s.kinds[url] = k
	}
	return k
}

func (s *Server) entry(key Key) *entry {
	k := s.kind(key.Type)
	e := k.entries[key.Name]
	if e == nil {
		e = &entry{key: key, kind: k, items: map[*stream]*item{}}
		k.entries[key.Name] = e
	}
	return e
}

// collect forgets an entry, and its kind, that nobody has to do with.
func (s *Server) collect(e *entry) {
	if e.res != nil || len(e.items) > 0 || len(e.waiters) > 0 {
		return
	}
	if e.kind.entries[e.key.Name] == e {
		delete(e.kind.entries, e.key.Name)
	}
	s.collectKind(e.kind)
}

func (s *Server) collectKind(k *kind) {
	if len(k.entries) == 0 && k.users == 0 && s.kinds[k.url] == k {
		delete(s.kinds, k.url)
	}
}
