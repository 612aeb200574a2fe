package activator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/link"
)

// revision is all the activator has of one revision: its queue, its load, its pods
// and their probes, under one lock that is never held across I/O.
type revision struct {
	name string // the cluster's name
	env  *environment

	mu      sync.Mutex
	queue   queue
	load    load
	cold    cold
	spec    *link.Revision // nil until the control plane has described it
	refused *refusal       // requests are refused with this: unknown, deleted, cannot start
	pods    map[string]*pod
	leaving map[*pod]struct{} // no longer described, with requests in flight
	timer   *time.Timer       // fires when the oldest waiting request must be refused
	armed   bool

	active   bool // known to the reporter
	evicted  bool // no longer in the table
	resolved bool // the control plane has described it or said that it does not exist

	assigned  bool              // this activator is one of those that share it
	toldStuck bool              // the control plane was told that requests are stuck here
	fences    map[string]uint64 // turns at which pods not described yet were given up

	lastUsed time.Duration
	poked    time.Duration // last, of a revision that cannot start
}

// failedPokeEvery bounds the pokes of requests that are refused because their
// revision cannot start.
const failedPokeEvery = 100 * time.Millisecond

// environment is what all revisions of an activator share.
type environment struct {
	name        string // of this activator
	self        string // its name and process
	member      sharing
	now         func() time.Duration
	holdTimeout time.Duration
	total       *bound
	bytes       *bound // of all requests that wait
	probe       prober
	metrics     *metrics
	reporter    reporting
	tracer      *tracer         // nil: no spans
	context     context.Context // of all probes
	handingBack atomic.Bool     // nobody waits here any more
	turn        atomic.Uint64   // the highest of any pod
}

// reporting is the reporter as revisions see it; neither call blocks.
type reporting interface {
	activate(*revision) // has something to report until a report of zeros was taken
	poke(*revision)     // must be reported at once
}

// sharing is the membership as revisions see it; neither call blocks.
type sharing interface {
	share(*link.Share)             // what is left on a pod that was given up
	waits(cluster string, on bool) // requests are held that have no pod here
}

// pod is one of a revision's pods, with the requests it has from here.
type pod struct {
	name     string
	endpoint netip.AddrPort
	address  string // endpoint as host:port

	inFlight  int
	elsewhere int    // from other activators, which count toward the limit
	issued    uint64 // since the last report
	picked    uint64 // the queue's grant number
	index     int    // in the queue's heap, -1 when not usable

	start    *link.StartTimes // nil: not known
	ready    bool             // Kubernetes calls it so
	draining bool
	mine     bool
	owner    string             // who alone may send to it, NAME@PROCESS; "" is anybody
	turn     uint64             // at which the owner got it
	fence    uint64             // the turn at which this activator had to give it up
	owes     bool               // it was given up, and the control plane waits for it to be empty
	probed   bool               // answered a probe
	suspect  bool               // could not be reached since it was ready or probed
	stop     context.CancelFunc // of its running probe, nil if there is none
}

// serves says whether new requests may go to the pod.
func (p *pod) serves() bool {
	return p.mine && !p.draining && (p.probed || p.ready && !p.suspect)
}

// errLeft says that the client went away, errHandedBack that another activator is to take the request.
var (
	errLeft       = errors.New("the client left")
	errHandedBack = errors.New("handed back")
)

func newRevision(name string, env *environment, maxHeld int) *revision {
	return &revision{
		name: name, env: env, lastUsed: env.now(),
		queue:   queue{bound: maxHeld, total: env.total},
		pods:    map[string]*pod{},
		leaving: map[*pod]struct{}{},
	}
}

// acquire waits for a pod with room and counts the request as in progress until
// release. It returns nil and the pod; or a *refusal, errLeft or errHandedBack;
// release must be called in every case, unless ok is false: then the revision was
// evicted from the table and the request counts nowhere.
func (r *revision) acquire(ctx context.Context, t *ticket) (ok bool, err error) {
	r.mu.Lock()
	if r.evicted {
		r.mu.Unlock()
		return false, nil
	}
	now := r.env.now()
	if !r.active {
		r.active = true
		r.load.changed, r.load.reported = now, now
		r.env.reporter.activate(r)
	}
	r.lastUsed = now
	r.load.arrive(now)

	usable := len(r.queue.usable) > 0
	first := r.queue.waiting == 0 && !usable
	if r.refused != nil && !usable {
		err = r.refused
		// A new attempt to start it may be due; not one for every request.
		again := r.refused.reason == reasonFailed && (r.poked == 0 || now-r.poked >= failedPokeEvery)
		if again {
			r.poked = now
		}
		r.mu.Unlock()
		if again {
			r.env.reporter.poke(r)
		}
		return true, err
	}
	out := r.queue.enter(t, now)
	if out == held && r.env.handingBack.Load() {
		r.queue.leave(t)
		r.mu.Unlock()
		return true, errHandedBack
	}
	if out == held && t.request != nil {
		if t.bytes = sizeOf(t.request); !r.env.bytes.takeN(t.bytes) {
			t.bytes = 0
			r.queue.leave(t)
			out = full
		}
	}
	if out == held {
		r.arm(now)
		r.tell()
	}
	limit := r.queue.bound
	if first && out == held && len(r.pods) == 0 {
		r.cold.begin(now)
	}
	r.mu.Unlock()

	switch out {
	case granted:
		return true, nil
	case full:
		return true, &refusal{
			http.StatusServiceUnavailable, reasonFull,
			fmt.Sprintf("revision %s: the queue is full (at most %d requests may wait for it, and %d of %d bytes in all): try again later",
				r.shown(), limit, r.env.total.max, r.env.bytes.max), 1,
		}
	}
	if first {
		r.env.reporter.poke(r)
	}
	return true, r.wait(ctx, t, now)
}

// again gives back a pod that could not be reached and waits for one, this one if it
// answers a probe first. The request keeps its place by arrival.
func (r *revision) again(ctx context.Context, t *ticket) error {
	r.mu.Lock()
	p := t.pod
	t.pod = nil
	p.probed, p.suspect = false, true
	r.settle(p)
	return r.rejoin(ctx, t, p)
}

// retry gives a pod's place back and waits for any pod, after a failure that says
// nothing about the pod.
func (r *revision) retry(ctx context.Context, t *ticket) error {
	r.mu.Lock()
	p := t.pod
	t.pod = nil
	return r.rejoin(ctx, t, p)
}

// rejoin gives p's place back and waits for a pod. It is called with the lock held,
// and releases it.
func (r *revision) rejoin(ctx context.Context, t *ticket, p *pod) error {
	r.finish(p)
	usable := len(r.queue.usable) > 0
	if r.refused != nil && !usable {
		err := r.refused
		r.mu.Unlock()
		return err
	}
	now := r.env.now()
	first := r.queue.waiting == 0 && !usable
	out := r.queue.reenter(t)
	if out == held && r.env.handingBack.Load() {
		r.queue.leave(t)
		r.mu.Unlock()
		return errHandedBack
	}
	if out == held {
		r.arm(now)
		r.tell()
	}
	r.mu.Unlock()
	if out == granted {
		return nil
	}
	if first {
		r.env.reporter.poke(r)
	}
	return r.wait(ctx, t, now)
}

// wait blocks until a waiting ticket got a pod or a refusal, or the client left.
func (r *revision) wait(ctx context.Context, t *ticket, since time.Duration) error {
	r.env.metrics.held.Add(1)
	defer func() {
		r.env.metrics.held.Add(-1)
		r.env.bytes.n.Add(-t.bytes)
		t.bytes = 0
		r.env.metrics.holdSeconds.Observe((r.env.now() - since).Seconds())
	}()
	var left <-chan struct{}
	if t.watch != nil {
		l, stop := t.watch()
		left = l
		defer stop()
	}
	select {
	case <-t.ready:
		if t.err == nil {
			r.granted()
		}
		return t.err
	case <-ctx.Done():
	case <-left:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.queue.leave(t) {
		<-t.ready // granted or refused in the same moment; release gives the pod back
	}
	r.tell()
	return errLeft
}

// granted notes that a request that waited has its pod.
func (r *revision) granted() {
	r.mu.Lock()
	r.cold.forwards(r.env.now())
	r.mu.Unlock()
}

// release ends a request: its pod, if it has one, is free for the next.
func (r *revision) release(t *ticket, ok bool) {
	r.mu.Lock()
	now := r.env.now()
	r.lastUsed = now
	r.load.end(now, ok)
	if t.pod != nil {
		r.finish(t.pod)
		t.pod = nil
	}
	r.mu.Unlock()
}

func (r *revision) finish(p *pod) {
	r.queue.finish(p)
	if p.inFlight == 0 {
		delete(r.leaving, p)
	}
	if p.owes {
		r.owed(p)
	}
	if r.toldStuck {
		r.tell()
	}
}

// arm sees to it that the oldest waiting request is refused when its time is over.
func (r *revision) arm(now time.Duration) {
	if r.armed || r.queue.head == nil {
		return
	}
	d := max(0, r.queue.head.arrived+r.timeout()-now)
	r.armed = true
	if r.timer == nil {
		r.timer = time.AfterFunc(d, r.expire)
	} else {
		r.timer.Reset(d)
	}
}

func (r *revision) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, timeout := r.env.now(), r.timeout()
	r.armed = false
	r.queue.expire(now-timeout, &refusal{
		http.StatusGatewayTimeout, reasonTimeout,
		fmt.Sprintf("revision %s: no pod had room within its timeout of %v", r.display(), timeout), 0,
	})
	r.arm(now)
	r.tell()
}

func (r *revision) timeout() time.Duration {
	if d := r.spec.GetTimeout().AsDuration(); d > 0 {
		return d
	}
	return r.env.holdTimeout
}

// display names the revision for people.
func (r *revision) display() string {
	if r.spec != nil {
		return r.spec.GetNamespace() + "/" + r.spec.GetName()
	}
	return r.name
}

// shown is display for callers without the lock.
func (r *revision) shown() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.display()
}

// protocol is what the revision's pods speak.
func (r *revision) protocol() link.Protocol {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spec.GetProtocol()
}

// apply takes over a new description of the revision.
func (r *revision) apply(spec *link.Revision) error {
	endpoints := make([]netip.AddrPort, len(spec.GetPods()))
	for i, p := range spec.GetPods() {
		ip, err := netip.ParseAddr(p.GetAddress())
		if err != nil || p.GetPort() == 0 || p.GetPort() > 65535 {
			return fmt.Errorf("revision %s: pod %s: %q port %d is not an IP address and a port", spec.GetCluster(), p.GetName(), p.GetAddress(), p.GetPort())
		}
		endpoints[i] = netip.AddrPortFrom(ip, uint16(p.GetPort()))
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	reprobe := r.spec != nil && !proto.Equal(r.spec.GetProbe(), spec.GetProbe())
	r.spec, r.resolved, r.refused = spec, true, nil
	if text := spec.GetFailure(); text != "" {
		r.refused = &refusal{
			http.StatusServiceUnavailable, reasonFailed,
			fmt.Sprintf("revision %s cannot start: %s", r.display(), text), 0,
		}
	}

	// First what may not be used, or not so much, any more: whoever waits is served in between.
	r.queue.setLimit(int(spec.GetContainerConcurrency()))
	described := make(map[string]bool, len(spec.GetPods()))
	for i, d := range spec.GetPods() {
		described[d.GetName()] = true
		p := r.pods[d.GetName()]
		if p != nil && p.endpoint != endpoints[i] {
			r.drop(p)
			p = nil
		}
		if p == nil {
			p = &pod{name: d.GetName(), endpoint: endpoints[i], address: endpoints[i].String(), index: -1, fence: r.fences[d.GetName()]}
			r.pods[p.name] = p
		}
		if p.ready != d.GetReady() {
			// Newly ready: it is believed. No longer: it has to show that it serves.
			p.suspect, p.probed = false, false
		}
		p.ready, p.draining = d.GetReady(), d.GetDraining()
		p.start = d.GetStart()
		p.owner, p.turn = d.GetActivator(), d.GetTurn()
		r.env.heard(p.turn)
		if p.mine = p.belongs(r.env.self); p.mine {
			p.owes = false
		}
		if reprobe {
			r.stopProbe(p)
		}
		if !p.serves() {
			r.queue.unuse(p)
		}
	}
	for name, p := range r.pods {
		if !described[name] {
			r.drop(p)
		}
	}
	for _, d := range spec.GetPods() {
		p := r.pods[d.GetName()]
		r.queue.occupy(p, int(d.GetElsewhere()))
		r.settle(p)
	}
	r.assigned = slices.Contains(spec.GetActivators(), r.env.name)
	r.failIfHopeless()
	r.tell()
	// A changed timeout moves the deadline of those who wait already.
	if r.armed {
		r.timer.Stop()
		r.armed = false
	}
	r.arm(r.env.now())
	return nil
}

// remove says that the revision does not exist, or no longer.
func (r *revision) remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := &refusal{http.StatusNotFound, reasonUnknown, fmt.Sprintf("there is no revision %s", r.display()), 0}
	waiting := gone
	if r.spec != nil {
		waiting = &refusal{http.StatusServiceUnavailable, reasonGone, fmt.Sprintf("revision %s was deleted", r.display()), 0}
	}
	for _, p := range r.pods {
		r.drop(p)
	}
	r.spec, r.resolved, r.refused = nil, true, gone
	r.queue.fail(waiting)
	r.tell()
}

// drop forgets a pod, but for the requests it still has.
func (r *revision) drop(p *pod) {
	r.stopProbe(p)
	r.queue.unuse(p)
	delete(r.pods, p.name)
	p.mine = false
	if p.inFlight > 0 {
		r.leaving[p] = struct{}{}
	}
}

// settle brings a pod's place in the queue and its probe in line with its state.
func (r *revision) settle(p *pod) {
	if p.serves() {
		r.stopProbe(p)
		r.cold.serves(r.env.now())
		r.queue.use(p)
		return
	}
	r.queue.unuse(p)
	switch {
	case !p.mine || p.draining:
		r.stopProbe(p)
	case r.spec.GetProbe().GetKubelet() != nil && !p.ready:
		r.stopProbe(p) // only a change to ready tells
	case p.stop == nil:
		ctx, cancel := context.WithCancel(r.env.context)
		p.stop = cancel
		go r.probe(ctx, p, target{endpoint: p.endpoint, probe: r.spec.GetProbe(), protocol: r.spec.GetProtocol()})
	}
}

func (r *revision) stopProbe(p *pod) {
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

// probe asks a pod until it answers or is to be asked no longer.
func (r *revision) probe(ctx context.Context, p *pod, t target) {
	if !r.env.probe.until(ctx, t) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil { // stopped meanwhile; stopProbe is called under the lock
		return
	}
	p.probed, p.suspect = true, false
	r.settle(p)
}

// failIfHopeless refuses those who wait when no pod serves and none can start.
func (r *revision) failIfHopeless() {
	if r.refused != nil && len(r.queue.usable) == 0 {
		r.queue.fail(r.refused)
	}
}

// endpointLoad is a pod's part of a report.
type endpointLoad struct {
	endpoint netip.AddrPort
	inFlight int
	issued   uint64
}

// takeLoad returns what happened since the last call, with the pods that have
// requests or had some. When nothing did, the revision is not active any more.
// Between regular reports it stays active all the same: the next one takes it.
func (r *revision) takeLoad(regular bool) (sample, []endpointLoad) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.load.take(r.env.now())
	s.coldHeld, s.coldProbed = r.cold.take()
	if s.idle() && regular {
		r.active = false
	}
	var ends []endpointLoad
	add := func(p *pod) {
		if p.inFlight > 0 || p.issued > 0 {
			ends = append(ends, endpointLoad{p.endpoint, p.inFlight, p.issued})
			p.issued = 0
		}
	}
	for _, p := range r.pods {
		add(p)
	}
	for p := range r.leaving {
		add(p)
	}
	return s, ends
}

// evict marks the revision as no longer in the table if nobody needs it: nothing
// in progress, nothing to report, not used for so long and no pods.
func (r *revision) evict(idleAfter time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active || r.load.inProgress > 0 || len(r.pods) > 0 || r.env.now()-r.lastUsed < idleAfter {
		return false
	}
	r.evicted = true
	if r.timer != nil {
		r.timer.Stop()
	}
	return true
}
