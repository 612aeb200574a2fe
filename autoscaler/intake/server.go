package intake

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	lrs "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// Kind of a reporter.
type Kind int

const (
	Gateway   Kind = iota // an Envoy: samples, for the clusters it was told
	Activator             // exact integrals, for what it holds
)

// NodeActivator is the node.cluster of activators; every other reporter counts as a gateway.
const NodeActivator = "ebb-activator"

// Observation is what one reporter saw of one cluster in one period.
type Observation struct {
	Cluster  string
	Reporter string // node id
	Kind     Kind
	From, To time.Time
	// Concurrency is the integral of requests in flight over the period, in request·seconds. Activators
	// count queued requests too; gateways only requests on pods, so nothing is counted twice.
	Concurrency float64
	InFlight    int // now; with queued ones for activators
	Issued      int // begun in the period
	// ColdHeld is set once after a start from zero: how long the first request waited, and after how much of that
	// a pod served (0: not known).
	ColdHeld, ColdProbed time.Duration
	// Lost: the reporter is gone with requests in flight; what it serves from now on is unknown.
	Lost bool
}

// Sink takes observations. Observe is called by one goroutine a reporter, must not block, and must not keep the slice.
type Sink interface{ Observe([]Observation) }

// Options of a Server. The zero value of each field means its default.
type Options struct {
	Sink Sink
	// Used hears which clusters had traffic, each at most once a second. It must not block.
	Used func(cluster string)
	// The interval told to reporters varies from MinInterval to MaxInterval, so that samples are not taken in step with
	// arrivals. Defaults 60 and 140 ms.
	MinInterval, MaxInterval time.Duration
	// Forget is how long a reporter that disconnected may take to come back before what it had in flight
	// is given up. Default 1 s.
	Forget time.Duration
	// Settle is how long after New, and after a gateway's stream ended, the answers to AwaitIdle wait for gateways that carry
	// traffic and are not back yet. Default 8 s: an Envoy waits 5 s before it opens a new stream (source/common/upstream/load_stats_reporter.cc).
	Settle time.Duration
	// Identify refuses a reporter that is not of the kind it says it is; nil takes everybody.
	Identify func(context.Context, Kind) error
	// MaxReporters bounds the streams served at once. Default 4096.
	MaxReporters int
	Logger       *slog.Logger
}

// Server is the LRS service. All methods may be called from several goroutines.
type Server struct {
	opt Options

	mu        sync.Mutex
	tracked   map[string]int // cluster -> holds: 1 by Track, 1 for each AwaitIdle
	track     map[string]bool
	list      []byte // LoadStatsResponse.clusters, encoded
	listSeq   uint64
	dirty     bool // list is to be made again
	sessions  map[*session]struct{}
	waiters   map[*waiter]struct{}
	used      map[string]struct{}
	reporters [2]int    // by kind: connected or not yet forgotten
	sure      time.Time // until then gateways may be there that do not report
	blind     time.Time // when a reporter last came or went
	resend    *time.Timer
}

// New returns a Server that is ready to be registered.
func New(opt Options) *Server {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&opt.MinInterval, 60*time.Millisecond)
	def(&opt.MaxInterval, 140*time.Millisecond)
	opt.MaxInterval = max(opt.MaxInterval, opt.MinInterval)
	def(&opt.Forget, time.Second)
	def(&opt.Settle, 8*time.Second)
	if opt.MaxReporters <= 0 {
		opt.MaxReporters = 4096
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	now := time.Now()
	s := &Server{
		opt: opt, blind: now,
		tracked: map[string]int{}, track: map[string]bool{},
		sessions: map[*session]struct{}{}, waiters: map[*waiter]struct{}{}, used: map[string]struct{}{},
	}
	s.unsure(now)
	return s
}

// unsure makes answers to AwaitIdle wait for gateways that may be about to come back.
func (s *Server) unsure(now time.Time) {
	s.sure = now.Add(s.opt.Settle)
	time.AfterFunc(s.opt.Settle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for w := range s.waiters {
			s.settle(w, nil)
		}
	})
}

// Register adds the service to r. Call it before r serves.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	lrs.RegisterLoadReportingServiceServer(r, service{s: s})
}

// SetSink sets where observations go. Call it before the first report.
func (s *Server) SetSink(sink Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.Sink = sink
}

// Track says whether gateways shall report a cluster: those that have pods of their own (priority 0). Gateways
// learn of changes within some 20 ms. It does not block.
func (s *Server) Track(cluster string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.track[cluster] == on {
		return
	}
	if on {
		s.track[cluster] = true
		s.hold(cluster)
	} else {
		delete(s.track, cluster)
		s.release(cluster)
	}
}

func (s *Server) hold(cluster string) {
	s.tracked[cluster]++
	if s.tracked[cluster] == 1 {
		s.changed()
	}
}

func (s *Server) release(cluster string) {
	s.tracked[cluster]--
	if s.tracked[cluster] == 0 {
		delete(s.tracked, cluster)
		s.changed()
	}
}

// coalesce is how long changes of the list are gathered.
const coalesce = 20 * time.Millisecond

func (s *Server) changed() {
	s.dirty = true
	if s.resend == nil {
		s.resend = time.AfterFunc(coalesce, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.resend = nil
			for sess := range s.sessions {
				sess.nudge()
			}
		})
	}
}

// clusters returns the encoded list and its sequence number.
func (s *Server) clusters() ([]byte, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty {
		names := make([]string, 0, len(s.tracked))
		for c := range s.tracked {
			names = append(names, c)
		}
		slices.Sort(names)
		var b []byte
		for _, c := range names {
			b = protowire.AppendTag(b, 1, protowire.BytesType)
			b = protowire.AppendString(b, c)
		}
		s.list, s.dirty = b, false
		s.listSeq++
	}
	return s.list, s.listSeq
}

// Reporter is one connected reporter, for status output.
type Reporter struct {
	Node string
	Kind Kind
	Last time.Time // arrival of its last report
	Busy int       // clusters with load in it
}

// Reporters lists who reports, sorted by node.
func (s *Server) Reporters() []Reporter {
	s.mu.Lock()
	all := make([]*session, 0, len(s.sessions))
	for sess := range s.sessions {
		all = append(all, sess)
	}
	s.mu.Unlock()
	out := make([]Reporter, 0, len(all))
	for _, sess := range all {
		sess.mu.Lock()
		if sess.known {
			out = append(out, Reporter{Node: sess.node.id, Kind: sess.kind, Last: sess.last, Busy: len(sess.busy)})
		}
		sess.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b Reporter) int {
		switch {
		case a.Node < b.Node:
			return -1
		case a.Node > b.Node:
			return 1
		}
		return 0
	})
	return out
}

// Sighted says since when all load is reported: since the last time that a reporter came or its stream ended, because what it had
// meanwhile is not known. With no gateway or no activator there is nobody to tell of a part of the load; missing says so then, and is "" otherwise.
func (s *Server) Sighted() (since time.Time, missing string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reporters[Gateway] == 0:
		missing = "no gateway reports its load"
	case s.reporters[Activator] == 0:
		missing = "no activator reports its load"
	}
	return s.blind, missing
}

// InFlight is how many requests were in flight on a pod (its address as in the endpoints) at the last reports. fresh is
// false when a reporter that had some there is gone and not yet forgotten.
func (s *Server) InFlight(cluster string, pod netip.AddrPort) (n int, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh = true
	for sess := range s.sessions {
		sess.mu.Lock()
		if c := sess.busy[cluster]; c != nil {
			k := c.inFlight(pod)
			n += k
			if k > 0 && sess.gone {
				fresh = false
			}
		}
		sess.mu.Unlock()
	}
	return n, fresh
}

// ErrNotIdle is wrapped by the error of AwaitIdle when its context ends first.
var ErrNotIdle = errors.New("requests are still in flight, or a reporter is silent")

// waiter is one AwaitIdle.
type waiter struct {
	cluster string
	pods    []netip.AddrPort
	begun   time.Time
	seq     uint64           // the list that holds the cluster
	pending map[*session]int // by how many idle reports in a row there were
	done    chan struct{}
}

// idleReports is how many reports of a gateway in a row have to be idle. An acknowledgement comes from a gateway's main
// thread; its workers learn of the change a moment later, and on a crowded machine that moment can be longer than a period
// (seen: 4 of 84,624 requests of a busy machine went to a pod that one idle report had let go).
const idleReports = 3

// AwaitIdle blocks until every activator has sent a report, and every gateway idleReports in a row, for periods that began after the
// call and in which nothing was in flight on the pods and nothing was sent there. Call it when the pods' draining has been acknowledged. The
// cluster is tracked meanwhile. The error wraps ErrNotIdle and the context's.
//
// A gateway omits endpoints without activity from its reports (source/common/upstream/load_stats_reporter.cc), and
// clusters that it does not have, so silence in a report counts as idle, once the list it was made for held the cluster.
func (s *Server) AwaitIdle(ctx context.Context, cluster string, pods []netip.AddrPort) error {
	if len(pods) == 0 {
		return nil
	}
	s.mu.Lock()
	s.hold(cluster)
	w := &waiter{cluster: cluster, pods: pods, begun: time.Now(), pending: map[*session]int{}, done: make(chan struct{})}
	w.seq = s.listSeq
	if s.dirty {
		w.seq++
	}
	for sess := range s.sessions {
		w.pending[sess] = 0
		sess.nudge()
	}
	if len(w.pending) == 0 && !time.Now().Before(s.sure) {
		close(w.done)
	} else {
		s.waiters[w] = struct{}{}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiters, w)
		s.release(cluster)
		s.mu.Unlock()
	}()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return errors.Join(ErrNotIdle, ctx.Err())
	}
}

// settle removes sess from what w waits for and ends the wait when nothing is left.
func (s *Server) settle(w *waiter, sess *session) {
	if _, ok := s.waiters[w]; !ok {
		return
	}
	delete(w.pending, sess)
	if len(w.pending) == 0 && !time.Now().Before(s.sure) {
		delete(s.waiters, w)
		close(w.done)
	}
}

// note gathers clusters in use and tells them once a second.
func (s *Server) note(clusters []string) {
	if s.opt.Used == nil || len(clusters) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.used) == 0 {
		time.AfterFunc(time.Second, func() {
			s.mu.Lock()
			used := s.used
			s.used = map[string]struct{}{}
			s.mu.Unlock()
			for c := range used {
				s.opt.Used(c)
			}
		})
	}
	for _, c := range clusters {
		s.used[c] = struct{}{}
	}
}
