package intake

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	lrs "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// session is one reporter: its stream, and after that is cut for a short while what it had in flight.
type session struct {
	s      *Server
	nudges chan struct{}
	// identify refuses a reporter that is not of its kind; nil takes everybody.
	identify func(Kind) error

	mu    sync.Mutex
	node  node
	kind  Kind
	known bool // the first message was read
	quiet bool // the last report was an activator's with nothing in it
	gone  bool
	busy  map[string]*load
	gen   uint64 // number of the report
	last  time.Time
	prev  time.Time // arrival of the report before
	// The list in effect when the last report and the one before arrived.
	sentSeq, lastSeq, prevSeq uint64
	addrs                     map[string]netip.AddrPort
	schedule                  schedule
	stands                    time.Duration // what the last report's look stands for

	// Reused from report to report.
	cr   clusterReport
	lr   localityReport
	er   endpointReport
	obs  []Observation
	used []string
	// named: the report names a cluster
	named bool
}

// load is what a reporter has on one cluster.
type load struct {
	name string
	gen  uint64
	end  time.Time // of the last period
	pods []podLoad
	last float64 // in flight
}

type podLoad struct {
	addr             netip.AddrPort
	inFlight, issued int
}

func (l *load) inFlight(pod netip.AddrPort) int {
	for i := range l.pods {
		if l.pods[i].addr == pod {
			return l.pods[i].inFlight
		}
	}
	return 0
}

const (
	// A reporter whose addresses pass this bound starts its table of them anew.
	maxAddresses = 1 << 16
	// Bound on what one period may claim to be long; a longer one is counted from its end.
	maxPeriod = 10 * time.Second
	// Bound on counts, so that no report makes sums overflow.
	maxCount = 1 << 30
)

type service struct {
	lrs.UnimplementedLoadReportingServiceServer
	s *Server
}

func (s *Server) newSession() *session {
	return &session{s: s, nudges: make(chan struct{}, 1), busy: map[string]*load{}, addrs: map[string]netip.AddrPort{},
		schedule: schedule{least: s.opt.MinInterval, most: s.opt.MaxInterval, random: rand.Float64}}
}

// StreamLoadStats serves one reporter until its stream ends.
func (v service) StreamLoadStats(stream lrs.LoadReportingService_StreamLoadStatsServer) error {
	s := v.s
	sess := s.newSession()
	if s.opt.Identify != nil {
		sess.identify = func(k Kind) error { return s.opt.Identify(stream.Context(), k) }
	}
	s.mu.Lock()
	if len(s.sessions) >= s.opt.MaxReporters {
		s.mu.Unlock()
		return status.Errorf(codes.ResourceExhausted, "load reports: %d reporters are connected already", s.opt.MaxReporters)
	}
	s.sessions[sess] = struct{}{}
	for w := range s.waiters {
		w.pending[sess] = 0
	}
	s.mu.Unlock()
	defer sess.leave()

	reports := make(chan struct{}, 1)
	failed := make(chan error, 1)
	go func() {
		// Everything is unknown to Empty, so the message stays bytes; see wire.go.
		var msg emptypb.Empty
		for {
			msg.Reset()
			if err := stream.RecvMsg(&msg); err != nil {
				failed <- err
				return
			}
			if err := sess.report(msg.ProtoReflect().GetUnknown(), time.Now()); err != nil {
				if _, said := status.FromError(err); said {
					failed <- err
					return
				}
				failed <- status.Errorf(codes.InvalidArgument, "load report of %q: %v", sess.node.id, err)
				return
			}
			select {
			case reports <- struct{}{}:
			default:
			}
		}
	}()

	due := time.Time{} // when the reporter will report next
	for {
		var interval time.Duration
		select {
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-reports:
			now := time.Now()
			interval = sess.next(now)
			due = now.Add(interval)
			if sess.isQuiet() {
				continue // an idle activator says so once a second by itself
			}
		case <-sess.nudges:
			if due.IsZero() {
				continue // its first message is not here yet
			}
			// A response starts the reporter's timer again: keep to the time it had.
			interval = max(time.Until(due), s.opt.MinInterval/2)
		}
		list, seq := s.clusters()
		resp := &lrs.LoadStatsResponse{LoadReportingInterval: durationpb.New(interval), ReportEndpointGranularity: true}
		// The names, encoded once for all reporters; they are appended as they are.
		if sess.isGateway() {
			resp.ProtoReflect().SetUnknown(list)
		} else {
			resp.SendAllClusters = true
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		sess.mu.Lock()
		sess.sentSeq = seq
		sess.mu.Unlock()
	}
}

func (sess *session) next(now time.Time) time.Duration {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return sess.schedule.next(now)
}

func (sess *session) isGateway() bool {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return sess.kind == Gateway
}

func (sess *session) isQuiet() bool {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return sess.quiet
}

// nudge makes the session send its reporter a response soon; an activator answers with a report.
func (sess *session) nudge() {
	select {
	case sess.nudges <- struct{}{}:
	default:
	}
}

// report takes in one LoadStatsRequest.
func (sess *session) report(msg []byte, now time.Time) error {
	s := sess.s
	sess.mu.Lock()
	sess.gen++
	sess.obs, sess.used, sess.named = sess.obs[:0], sess.used[:0], false
	sess.prev, sess.last = sess.last, now
	sess.stands = sess.schedule.stands()
	sess.prevSeq, sess.lastSeq = sess.lastSeq, sess.sentSeq
	number := sess.gen
	err := fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			if sess.known {
				return nil // repeated on every message
			}
			n, err := parseNode(b)
			if err != nil {
				return err
			}
			sess.node = n
			if n.cluster == NodeActivator {
				sess.kind = Activator
			}
			return nil
		case 2:
			return sess.cluster(b, now)
		}
		return nil
	})
	if err == nil && !sess.known && sess.identify != nil {
		if err = sess.identify(sess.kind); err != nil {
			clear(sess.busy)
		}
	}
	if err != nil {
		sess.mu.Unlock()
		return err
	}
	sess.known = true
	if sess.kind == Gateway {
		// What a gateway does not name is idle. An activator says so, and names only some clusters when it pokes.
		for name, l := range sess.busy {
			if l.gen != sess.gen {
				sess.ended(name, l, now)
			}
		}
	}
	sess.quiet = sess.kind == Activator && number > 1 && !sess.named
	sess.mu.Unlock()

	if number == 1 {
		s.arrived(sess, now)
	}
	if number == 2 || number == 1 && sess.kind == Activator {
		s.replace(sess, now) // the first message of a gateway has no load in it yet
	}
	if len(sess.obs) > 0 && s.opt.Sink != nil {
		s.opt.Sink.Observe(sess.obs)
	}
	s.note(sess.used)
	s.check(sess, now)
	return nil
}

// cluster takes in one ClusterStats.
func (sess *session) cluster(msg []byte, now time.Time) error {
	sess.named = true
	c := &sess.cr
	if err := c.parse(msg); err != nil {
		return err
	}
	if len(c.localities) == 0 {
		return nil // idle
	}
	period := c.interval
	if period <= 0 || period > maxPeriod {
		period = min(max(now.Sub(sess.prev), 0), sess.s.opt.MaxInterval)
	}
	var l *load
	o := Observation{Reporter: sess.node.id, Kind: sess.kind, From: now.Add(-period), To: now}
	for _, loc := range c.localities {
		if err := sess.lr.parse(loc); err != nil {
			return err
		}
		r := &sess.lr
		if sess.kind == Gateway && r.priority != 0 {
			continue // on an activator, which reports it itself
		}
		if r.inProgress == 0 && r.issued == 0 && r.concurrencyMillis == 0 && r.coldHeld == 0 {
			continue
		}
		if l == nil {
			if l = sess.busy[string(c.name)]; l == nil {
				l = &load{name: string(c.name)}
				sess.busy[l.name] = l
			}
			if l.gen == sess.gen {
				return nil // named twice in one report: the first counts
			}
			l.pods = l.pods[:0]
		}
		o.InFlight += int(min(r.inProgress, maxCount))
		o.Issued += int(min(r.issued, maxCount))
		if r.exact {
			o.Concurrency += r.concurrencyMillis / 1000
		}
		if sess.kind == Activator {
			o.ColdHeld, o.ColdProbed = max(o.ColdHeld, r.coldHeld), max(o.ColdProbed, r.coldProbed)
		}
		for _, ep := range r.endpoints {
			if err := sess.er.parse(ep); err != nil {
				return err
			}
			addr, ok := sess.address(sess.er.host, sess.er.port)
			if !ok {
				continue
			}
			l.pods = append(l.pods, podLoad{addr, int(min(sess.er.inProgress, maxCount)), int(min(sess.er.issued, maxCount))})
		}
	}
	if l == nil {
		if l := sess.busy[string(c.name)]; l != nil && sess.kind == Activator {
			sess.ended(l.name, l, now)
		}
		return nil
	}
	if sess.kind == Gateway {
		o.Concurrency = l.look(float64(o.InFlight), period, sess.stands)
	}
	l.gen, l.end = sess.gen, now
	o.Cluster = l.name
	sess.obs = append(sess.obs, o)
	sess.used = append(sess.used, o.Cluster)
	return nil
}

// look gives the integral, in request·seconds, that one look at what is in flight is worth: what was there at the look before too has been there
// since, and the rest stands for its span (see schedule). So load that stays as it is comes out exactly.
func (l *load) look(inFlight float64, since, stands time.Duration) float64 {
	if l.end.IsZero() && since < stands/2 { // the cluster has not been reported for longer
		stands = since
	}
	held := min(l.last, inFlight)
	l.last = inFlight
	return held*since.Seconds() + (inFlight-held)*stands.Seconds()
}

// ended notes that the reporter has nothing on a cluster any more.
func (sess *session) ended(name string, l *load, now time.Time) {
	sess.obs = append(sess.obs, Observation{Cluster: name, Reporter: sess.node.id, Kind: sess.kind, From: l.end, To: now})
	delete(sess.busy, name)
}

// address interns what endpoints are called on the wire.
func (sess *session) address(host []byte, port uint64) (netip.AddrPort, bool) {
	if port > 65535 {
		return netip.AddrPort{}, false
	}
	a, ok := sess.addrs[string(host)]
	if !ok {
		ip, err := netip.ParseAddr(string(host))
		if err == nil {
			a = netip.AddrPortFrom(ip.Unmap(), 0)
		}
		if len(sess.addrs) >= maxAddresses {
			clear(sess.addrs)
		}
		sess.addrs[string(host)] = a
	}
	if !a.IsValid() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Addr(), uint16(port)), true
}

// arrived counts a reporter whose first message was read.
func (s *Server) arrived(sess *session, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.Logger.Info("load reporter connected", "node", sess.node.id, "activator", sess.kind == Activator)
	s.reporters[sess.kind]++
	s.blind = now
}

// replace forgets older streams of the same reporter.
func (s *Server) replace(sess *session, now time.Time) {
	var old []*session
	s.mu.Lock()
	for o := range s.sessions {
		if o == sess {
			continue
		}
		o.mu.Lock()
		if o.known && o.gone && o.node == sess.node {
			old = append(old, o)
		}
		o.mu.Unlock()
	}
	s.mu.Unlock()
	for _, o := range old {
		s.forget(o, sess, now)
	}
}

// leave is called when the stream has ended.
func (sess *session) leave() {
	s := sess.s
	sess.mu.Lock()
	sess.gone = true
	known, gateway := sess.known, sess.kind == Gateway
	sess.mu.Unlock()
	now := time.Now()
	if !known {
		s.forget(sess, nil, now)
		return
	}
	s.mu.Lock()
	s.blind = now
	if gateway {
		s.unsure(now)
	}
	s.mu.Unlock()
	s.opt.Logger.Info("load reporter disconnected", "node", sess.node.id)
	time.AfterFunc(s.opt.Forget, func() { s.forget(sess, nil, time.Now()) })
}

// forget gives up a reporter that is gone. What it had in flight is lost to sight, unless by, its
// successor, reports.
func (s *Server) forget(sess, by *session, now time.Time) {
	s.mu.Lock()
	if _, ok := s.sessions[sess]; !ok {
		s.mu.Unlock()
		return
	}
	delete(s.sessions, sess)
	for w := range s.waiters {
		s.settle(w, sess)
	}
	sess.mu.Lock()
	if sess.known {
		s.reporters[sess.kind]--
	}
	var obs []Observation
	for name, l := range sess.busy {
		obs = append(obs, Observation{Cluster: name, Reporter: sess.node.id, Kind: sess.kind, From: l.end, To: now, Lost: by == nil})
	}
	clear(sess.busy)
	sess.mu.Unlock()
	s.mu.Unlock()
	if by != nil {
		by.mu.Lock()
		kept := obs[:0]
		for _, o := range obs {
			if by.busy[o.Cluster] == nil {
				kept = append(kept, o)
			}
		}
		obs = kept
		by.mu.Unlock()
	}
	if len(obs) > 0 && s.opt.Sink != nil {
		s.opt.Sink.Observe(obs)
	}
}

// check tells those who wait for idle pods what the last report of sess says.
func (s *Server) check(sess *session, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.waiters {
		if _, ok := w.pending[sess]; !ok {
			continue
		}
		sess.mu.Lock()
		idle := sess.idle(w, now)
		sess.mu.Unlock()
		switch {
		case idle && sess.kind == Gateway && w.pending[sess]+1 < idleReports:
			w.pending[sess]++
		case idle:
			s.settle(w, sess)
		case sess.kind == Activator:
			sess.nudge()
		default:
			w.pending[sess] = 0
		}
	}
}

// idle says whether the last report is proof that w's pods are idle on this reporter: its period began after
// the call, and the list it was made for held the cluster.
func (sess *session) idle(w *waiter, now time.Time) bool {
	c := sess.busy[w.cluster]
	switch {
	case sess.kind == Activator:
		// It may be a poke, which names only some clusters; but while it has anything it reports all of it within the
		// longest interval.
		if now.Sub(w.begun) < sess.s.opt.MaxInterval+coalesce {
			return false
		}
	case sess.prev.Before(w.begun) || now.Sub(w.begun) < sess.s.opt.MinInterval:
		return false
	case c == nil:
		return sess.prevSeq >= w.seq
	}
	if c == nil {
		return true
	}
	for _, p := range w.pods {
		for i := range c.pods {
			if c.pods[i].addr == p && (c.pods[i].inFlight > 0 || c.pods[i].issued > 0) {
				return false
			}
		}
	}
	return true
}
