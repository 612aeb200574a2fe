package backlog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// Backlog is what the events for one revision ask for.
type Backlog struct {
	Waiting  float64 // stored and not given out
	InFlight float64 // given out and not acknowledged
	Demand   float64 // of both what would be in flight at once if there were pods enough
}

// Events is what waits or is in flight, rounded.
func (b Backlog) Events() int { return int(b.Waiting + b.InFlight + 0.5) }

// Sink hears of the backlog of a revision, by its cluster, when it changes: first something, at last the zero Backlog. It must
// not call the Server.
type Sink interface {
	Backlog(cluster string, b Backlog)
}

// Options of a Server. Sink and Backends are required.
type Options struct {
	Sink Sink
	// Backends says where requests for a host go; none if nobody serves it. It is called again when Moved says so.
	Backends func(host string) []ir.Backend
	// Forget is how long what a dispatcher told stands after its stream has ended; 30 s when 0.
	Forget time.Duration
	// Most bounds the subscriptions that are known at once; 100,000 when 0.
	Most   int
	Logger *slog.Logger
}

const (
	maxSessions = 1000
	maxName     = 1024
	maxURL      = 4096
	maxCount    = 1e9
)

// Server is the Backlog service. Its methods may be called from several goroutines.
type Server struct {
	link.UnimplementedBacklogServer
	opt Options

	mu       sync.Mutex
	sessions map[*session]struct{}
	order    uint64 // of what is told
	subs     map[string]*subscription
	hosts    map[string]*host
	clusters map[string]map[string]*host // by cluster, then by host: those with a backlog
	full     bool                        // it was said that there are too many

	moving sync.Mutex
	moved  map[string]struct{} // hosts; nil while nobody runs settle
}

// session is one stream of a dispatcher.
type session struct{ process string }

// subscription has one value of each dispatcher that tells of it.
type subscription struct {
	host   string // the URL's, "" if that is none
	now    value  // the newest of values, without what rests
	values []told
}

type told struct {
	by                *session
	order             uint64
	waiting, inFlight uint64
	resting           uint64 // of this dispatcher
	parallelism       uint64
	url               string
}

type value struct{ waiting, inFlight, demand uint64 }

func (v *value) add(o value) { v.waiting += o.waiting; v.inFlight += o.inFlight; v.demand += o.demand }
func (v *value) subtract(o value) {
	v.waiting -= o.waiting
	v.inFlight -= o.inFlight
	v.demand -= o.demand
}

// host is the sum of its subscriptions, and where they go.
type host struct {
	sum  value
	subs int
	to   []ir.Backend
}

// New makes a Server.
func New(o Options) *Server {
	if o.Forget <= 0 {
		o.Forget = 30 * time.Second
	}
	if o.Most <= 0 {
		o.Most = 100_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		opt: o, sessions: map[*session]struct{}{}, subs: map[string]*subscription{}, hosts: map[string]*host{}, clusters: map[string]map[string]*host{},
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { link.RegisterBacklogServer(r, s) }

// Tell is one dispatcher's stream.
func (s *Server) Tell(stream grpc.BidiStreamingServer[link.FromEventing, link.ToEventing]) error {
	first, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	sess := &session{process: first.GetProcess()}
	if sess.process == "" || len(sess.process) > maxName {
		return status.Error(codes.InvalidArgument, "the first message has to name the process")
	}
	s.mu.Lock()
	if len(s.sessions) >= maxSessions {
		s.mu.Unlock()
		return status.Errorf(codes.ResourceExhausted, "%d dispatchers tell of their backlogs already", maxSessions)
	}
	s.sessions[sess] = struct{}{}
	s.mu.Unlock()
	s.opt.Logger.Info("a dispatcher tells of its backlogs", "process", sess.process)
	defer s.leave(sess)
	for message, joined := first, false; ; {
		s.take(sess, message.GetBacklogs())
		if message.GetTold() && !joined {
			joined = true
			s.replace(sess)
			if err := stream.Send(&link.ToEventing{Joined: true}); err != nil {
				return err
			}
		}
		if message, err = stream.Recv(); err != nil {
			return ended(err)
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// take takes in what a dispatcher tells.
func (s *Server) take(sess *session, backlogs []*link.SubscriptionBacklog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.sessions[sess]; !there {
		return // its process tells by another stream
	}
	changed := map[string]struct{}{}
	for _, b := range backlogs {
		name := b.GetSubscription()
		if name == "" || len(name) > maxName || len(b.GetUrl()) > maxURL {
			continue
		}
		t := told{by: sess, waiting: min(b.GetWaiting(), maxCount), inFlight: min(b.GetInFlight(), maxCount),
			resting: min(b.GetResting(), maxCount), parallelism: uint64(b.GetParallelism()), url: b.GetUrl()}
		sub := s.subs[name]
		if t.waiting+t.inFlight == 0 {
			if sub != nil { // nobody has anything of it
				s.set(name, sub, nil, changed)
			}
			continue
		}
		if sub == nil {
			if len(s.subs) >= s.opt.Most {
				if !s.full {
					s.full = true
					s.opt.Logger.Warn("too many subscriptions have a backlog: the autoscaler is not told of the rest", "most", s.opt.Most, "left out", b.GetOwner())
				}
				continue
			}
			sub = &subscription{}
			s.subs[name] = sub
		}
		s.order++
		t.order = s.order
		all := slices.DeleteFunc(sub.values, func(t told) bool { return t.by == sess })
		s.set(name, sub, append(all, t), changed)
	}
	s.refresh(changed)
}

// set makes values those of a subscription; none forgets it. s.mu is held.
func (s *Server) set(name string, sub *subscription, values []told, changed map[string]struct{}) {
	if h := s.hosts[sub.host]; h != nil {
		h.sum.subtract(sub.now)
		h.subs--
		changed[sub.host] = struct{}{}
	}
	sub.values = values
	if len(values) == 0 {
		delete(s.subs, name)
		s.full = false
		return
	}
	newest, resting := values[0], uint64(0)
	for _, t := range values {
		if t.order > newest.order {
			newest = t
		}
		resting += t.resting
	}
	sub.now = value{waiting: newest.waiting, inFlight: newest.inFlight - min(newest.inFlight, resting)}
	sub.now.demand = min(sub.now.waiting+sub.now.inFlight, newest.parallelism)
	sub.host = hostOf(newest.url)
	if sub.host == "" {
		return
	}
	h := s.hosts[sub.host]
	if h == nil {
		h = &host{}
		s.hosts[sub.host] = h
	}
	h.sum.add(sub.now)
	h.subs++
	changed[sub.host] = struct{}{}
}

// hostOf is the host that gateways know a URL by; "" for what is no HTTP URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// refresh tells the sink of the revisions that some hosts lead to, or led to. s.mu is held.
func (s *Server) refresh(hosts map[string]struct{}) {
	clusters := map[string]struct{}{}
	for name := range hosts {
		h := s.hosts[name]
		if h == nil {
			continue
		}
		for _, b := range h.to {
			clusters[b.Cluster] = struct{}{}
			delete(s.clusters[b.Cluster], name)
			if len(s.clusters[b.Cluster]) == 0 {
				delete(s.clusters, b.Cluster)
			}
		}
		h.to = nil
		if h.subs == 0 {
			delete(s.hosts, name)
			continue
		}
		h.to = s.opt.Backends(name)
		for _, b := range h.to {
			clusters[b.Cluster] = struct{}{}
			if s.clusters[b.Cluster] == nil {
				s.clusters[b.Cluster] = map[string]*host{}
			}
			s.clusters[b.Cluster][name] = h
		}
	}
	for cluster := range clusters {
		s.opt.Sink.Backlog(cluster, s.of(cluster))
	}
}

// of sums up what leads to a revision. s.mu is held.
func (s *Server) of(cluster string) (sum Backlog) {
	for _, h := range s.clusters[cluster] {
		for _, b := range h.to {
			if b.Cluster != cluster {
				continue
			}
			part := float64(b.Weight) / 100
			sum.Waiting += part * float64(h.sum.waiting)
			sum.InFlight += part * float64(h.sum.inFlight)
			sum.Demand += part * float64(h.sum.demand)
		}
	}
	return sum
}

// replace forgets what older streams of the same process told and this one did not repeat.
func (s *Server) replace(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old := range s.sessions {
		if old != sess && old.process == sess.process {
			s.forget(old)
		}
	}
}

// leave is called when a stream has ended.
func (s *Server) leave(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.Logger.Info("a dispatcher tells nothing more", "process", sess.process)
	time.AfterFunc(s.opt.Forget, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forget(sess)
	})
}

// forget takes out what a dispatcher told; what others told of the same subscriptions counts. s.mu is held.
func (s *Server) forget(sess *session) {
	if _, there := s.sessions[sess]; !there {
		return
	}
	delete(s.sessions, sess)
	changed := map[string]struct{}{}
	for name, sub := range s.subs {
		left := slices.DeleteFunc(slices.Clone(sub.values), func(t told) bool { return t.by == sess })
		if len(left) < len(sub.values) {
			s.set(name, sub, left, changed)
		}
	}
	s.refresh(changed)
}

// Moved says that the backends of hosts may be others now. It does not block and calls nothing, so it may be called with
// locks held that Backends takes.
func (s *Server) Moved(hosts []string) {
	s.moving.Lock()
	defer s.moving.Unlock()
	if s.moved == nil {
		s.moved = map[string]struct{}{}
		go s.settle()
	}
	for _, h := range hosts {
		s.moved[h] = struct{}{}
	}
}

// settle looks where hosts lead now, until none has moved meanwhile.
func (s *Server) settle() {
	for {
		s.moving.Lock()
		hosts := s.moved
		if len(hosts) == 0 {
			s.moved = nil
			s.moving.Unlock()
			return
		}
		s.moved = map[string]struct{}{}
		s.moving.Unlock()
		s.mu.Lock()
		s.refresh(hosts)
		s.mu.Unlock()
	}
}
