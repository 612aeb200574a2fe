package autoscaler

import (
	"container/heap"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/autoscaler/backlog"
	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/autoscaler/window"
	"ebb.dev/ebb/proxy/ir"
)

// Drainer marks pods so that they finish what they have and get nothing new. Its methods may be called from several goroutines.
type Drainer interface {
	// Drain makes exactly these pods (names) of the revision DRAINING; none takes all back.
	Drain(namespace, revision string, pods []string)
	// AwaitDrained blocks until every gateway and activator has acknowledged the marking.
	AwaitDrained(ctx context.Context, namespace, revision string) error
}

// Load is what the Scaler asks of the intake; *intake.Server is one.
type Load interface {
	InFlight(cluster string, pod netip.AddrPort) (n int, fresh bool)
	AwaitIdle(ctx context.Context, cluster string, pods []netip.AddrPort) error
	Sighted() (since time.Time, missing string)
}

// Writer writes what the Scaler decides.
type Writer interface {
	// Scale sets the replicas of the revision's Deployment.
	Scale(ctx context.Context, namespace, revision string, replicas int) error
	// DeletionCost sets controller.kubernetes.io/pod-deletion-cost of a pod; 0 removes it. A pod that is gone is no error.
	DeletionCost(ctx context.Context, namespace, pod string, cost int) error
}

// Settings of one revision.
type Settings struct {
	decision.Settings
	Window window.Shape
	// Grace bounds the wait for the acknowledgement of DRAINING (scale-to-zero-grace-period).
	Grace time.Duration
	// Foreign: another autoscaler (class hpa) scales this revision.
	Foreign bool
}

// Pod of a revision.
type Pod struct {
	Name        string
	Addr        netip.AddrPort // invalid until it has an IP
	Ready       bool
	Running     bool // scheduled and its containers started
	Terminating bool
	Created     time.Time
	Cost        int // deletion cost it carries
}

// Revision as the cache has it.
type Revision struct {
	Namespace, Name, UID string
	Settings             Settings
	Timeout              time.Duration // of a request, bounds draining
	Reachable            bool
	Initialized, Failed  bool
	// Replicas asked of the Deployment; below 0: there is none yet.
	Replicas int
	Pods     []Pod
}

type key struct{ namespace, name string }

// Options of a Scaler. Load, Drainer and Writer are required.
type Options struct {
	Load    Load
	Drainer Drainer
	Writer  Writer
	// ColdStarts, if given, is told of starts from zero.
	ColdStarts *coldstart.Recorder
	Logger     *slog.Logger
}

// Scaler decides and acts. It is an [intake.Sink] and a [backlog.Sink]. All methods may be called from several goroutines.
type Scaler struct {
	opt Options

	mu        sync.RWMutex
	byKey     map[key]*revision
	byCluster map[string]*revision
	backlogs  map[string]backlog.Backlog // by cluster, of revisions that are known or not; none is empty

	ctx    atomic.Pointer[context.Context] // of Start; nil before: nothing is written
	timers timers
	counts counts
}

// revision is the Scaler's state of one revision.
type revision struct {
	key     key
	cluster string

	mu      sync.Mutex
	seen    Revision
	gone    bool
	win     *window.Window
	state   decision.State
	last    decision.Decision
	decided bool
	looks   map[string]look // by reporter, those with load
	lost    time.Time       // when a reporter was last lost with load
	events  events          // to be delivered
	current int             // replicas as written last or read since
	desired int

	acting  bool
	changed chan struct{}        // closed when desired or the pods change
	rewish  chan struct{}        // closed when desired changes
	marked  map[string]time.Time // pods made DRAINING, since when
	leaving map[string]bool      // of these, those given to Kubernetes to delete

	at   time.Time // in the timers' heap; guarded by timers.mu
	heap int
}

// New returns a Scaler that decides at once and acts once Start runs.
func New(opt Options) *Scaler {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Scaler{opt: opt, byKey: map[key]*revision{}, byCluster: map[string]*revision{}, backlogs: map[string]backlog.Backlog{}}
	s.timers.wake = make(chan struct{}, 1)
	return s
}

// NeedLeaderElection says that only the leader scales.
func (s *Scaler) NeedLeaderElection() bool { return true }

// Start acts on decisions until ctx ends.
func (s *Scaler) Start(ctx context.Context) error {
	s.ctx.Store(&ctx)
	s.mu.Lock()
	all := make([]*revision, 0, len(s.byKey))
	for _, r := range s.byKey {
		all = append(all, r)
	}
	s.mu.Unlock()
	for _, r := range all {
		r.mu.Lock()
		s.decide(r, time.Now())
		r.mu.Unlock()
	}
	s.timers.run(ctx, func(r *revision) {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.decide(r, time.Now())
	})
	return nil
}

func (s *Scaler) running() context.Context {
	if p := s.ctx.Load(); p != nil {
		return *p
	}
	return nil
}

// Set takes in what the cache has of a revision and decides anew.
func (s *Scaler) Set(seen Revision) {
	k := key{seen.Namespace, seen.Name}
	cluster := ir.RevisionCluster(seen.Namespace, seen.Name, seen.UID)
	now := time.Now()
	if seen.Settings.Foreign {
		s.release(k)
		return
	}
	s.mu.Lock()
	r := s.byKey[k]
	if r != nil && r.cluster != cluster {
		s.drop(r)
		r = nil
	}
	if r == nil {
		r = &revision{key: k, cluster: cluster, heap: -1, win: window.New(seen.Settings.Window, now),
			current: seen.Replicas, desired: seen.Replicas, changed: make(chan struct{}), rewish: make(chan struct{})}
		r.events.set(s.backlogs[cluster], now)
		s.byKey[k], s.byCluster[cluster] = r, r
	}
	s.mu.Unlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = seen
	r.current = seen.Replicas
	r.win.Reshape(seen.Settings.Window)
	if len(r.marked) > 0 {
		there := map[string]bool{}
		for _, p := range seen.Pods {
			there[p.Name] = true
		}
		var left []string
		for name := range r.marked {
			if there[name] {
				left = append(left, name)
				continue
			}
			delete(r.marked, name)
			delete(r.leaving, name)
		}
		slices.Sort(left)
		s.opt.Drainer.Drain(seen.Namespace, seen.Name, left)
	}
	close(r.changed)
	r.changed = make(chan struct{})
	s.decide(r, now)
}

// release lets go of a revision that another autoscaler scales from now on: its pods serve again.
func (s *Scaler) release(k key) {
	s.mu.RLock()
	r := s.byKey[k]
	s.mu.RUnlock()
	if r == nil {
		return
	}
	s.Remove(k.namespace, k.name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.marked) > 0 {
		s.opt.Drainer.Drain(k.namespace, k.name, nil)
		r.marked = nil
	}
}

// Remove forgets a revision.
func (s *Scaler) Remove(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byKey[key{namespace, name}]; r != nil {
		s.drop(r)
	}
}

func (s *Scaler) drop(r *revision) {
	delete(s.byKey, r.key)
	delete(s.byCluster, r.cluster)
	s.opt.ColdStarts.Forget(r.key.namespace, r.key.name)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	s.timers.set(r, time.Time{})
	close(r.changed)
	r.changed = make(chan struct{})
	close(r.rewish)
	r.rewish = make(chan struct{})
}

// Observe takes in load and decides anew for the revisions it is about.
func (s *Scaler) Observe(obs []intake.Observation) {
	for i := range obs {
		o := &obs[i]
		s.mu.RLock()
		r := s.byCluster[o.Cluster]
		s.mu.RUnlock()
		if r == nil {
			continue // reported again in the next period, when the cache may have it
		}
		r.mu.Lock()
		if o.Lost {
			r.lost = o.To
		}
		s.noteStart(r, o)
		rps := r.seen.Settings.Metric == serving.MetricRPS
		if o.InFlight > 0 || o.Issued > 0 {
			if r.looks == nil {
				r.looks = map[string]look{}
			}
			r.looks[o.Reporter] = r.looks[o.Reporter].after(o, rps)
		} else {
			delete(r.looks, o.Reporter)
		}
		if r.current <= 0 && r.win.NextChange(o.To).IsZero() {
			r.win.Restart(o.From) // from zero: averaged over the time since
		}
		amount := o.Concurrency
		if rps {
			amount = float64(o.Issued)
		}
		r.win.Add(o.From, o.To, amount)
		if o.InFlight > 0 || o.Issued > 0 {
			r.win.Touch(o.To)
		}
		s.decide(r, o.To)
		r.mu.Unlock()
	}
}

// decide decides on r, which is locked.
func (s *Scaler) decide(r *revision, now time.Time) {
	if r.gone || r.current < 0 {
		return
	}
	set := &r.seen.Settings
	avg := r.win.Averages(now)
	in := decision.Input{
		Settings: set.Settings, Now: now, Stable: avg.Stable, Panic: avg.Panic, LastBusy: avg.LastBusy,
		Current: r.current, Reachable: r.seen.Reachable, Initialized: r.seen.Initialized, Failed: r.seen.Failed,
	}
	for _, l := range r.looks {
		in.InFlight += l.inFlight
	}
	in.Surge, in.SurgeOf = surge(r.looks)
	r.count(&in)
	for i := range r.seen.Pods {
		if p := &r.seen.Pods[i]; p.Ready && !p.Terminating {
			in.Ready++
		}
	}
	since, missing := s.opt.Load.Sighted()
	sighted := missing == ""
	in.Missing = "load has been observed by all for less than a stable window"
	if r.lost.After(since) {
		since, in.Missing = r.lost, "a reporter with requests in flight was lost within the stable window"
	}
	in.Until = since.Add(set.StableWindow)
	in.Complete = sighted && !now.Before(in.Until)
	if !sighted {
		in.Until, in.Missing = time.Time{}, missing
	}

	r.last, r.state = decision.Decide(in, r.state)
	r.decided = true
	d := &r.last
	s.counts.count(r.desired, d.Desired)
	if d.Desired != r.desired {
		s.opt.Logger.Info("scale", "namespace", r.key.namespace, "revision", r.key.name, "from", r.desired, "to", d.Desired,
			"stable", avg.Stable, "panic", avg.Panic, "ready", in.Ready, "inFlight", in.InFlight, "panicking", d.Panic)
		r.desired = d.Desired
		close(r.rewish)
		r.rewish = make(chan struct{})
		close(r.changed)
		r.changed = make(chan struct{})
	}
	next := d.Next
	if d.Decaying || d.Panic {
		if c := r.win.NextChange(now); !c.IsZero() && (next.IsZero() || c.Before(next)) {
			next = c
		}
	}
	if c := r.events.nextChange(now, in.Backlog, d.Decaying || d.Panic); !c.IsZero() && (next.IsZero() || c.Before(next)) {
		next = c
	}
	if !sighted && r.current > 0 {
		// The first gateway's report does not name this revision if it is idle, so look again.
		if again := now.Add(set.StableWindow); next.IsZero() || again.Before(next) {
			next = again
		}
	}
	s.timers.set(r, next)
	s.act(r)
}

// Explain is why a revision has the pods it has: sentences, or nil for one that is not known.
func (s *Scaler) Explain(namespace, name string) []string {
	d, ok := s.Decision(namespace, name)
	if !ok {
		return nil
	}
	return d.Explain()
}

// Decision is the last one of a revision; ok false if there was none.
func (s *Scaler) Decision(namespace, name string) (d decision.Decision, ok bool) {
	s.mu.RLock()
	r := s.byKey[key{namespace, name}]
	s.mu.RUnlock()
	if r == nil {
		return d, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.decided
}

// timers wakes revisions at their time: one heap, one timer.
type timers struct {
	mu   sync.Mutex
	heap revisionHeap
	wake chan struct{}
}

func (t *timers) set(r *revision, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.at.Equal(at) {
		return
	}
	r.at = at
	switch {
	case at.IsZero() && r.heap >= 0:
		heap.Remove(&t.heap, r.heap)
	case at.IsZero():
	case r.heap < 0:
		heap.Push(&t.heap, r)
	default:
		heap.Fix(&t.heap, r.heap)
	}
	if r.heap == 0 {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

func (t *timers) run(ctx context.Context, f func(*revision)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		t.mu.Lock()
		var due []*revision
		now := time.Now()
		for len(t.heap) > 0 && !t.heap[0].at.After(now) {
			r := heap.Pop(&t.heap).(*revision)
			r.at = time.Time{}
			due = append(due, r)
		}
		wait := time.Hour
		if len(t.heap) > 0 {
			wait = t.heap[0].at.Sub(now)
		}
		t.mu.Unlock()
		if len(due) > 0 {
			for _, r := range due {
				f(r)
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-timer.C:
		}
	}
}

type revisionHeap []*revision

func (h revisionHeap) Len() int           { return len(h) }
func (h revisionHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h revisionHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}
func (h *revisionHeap) Push(x any) {
	r := x.(*revision)
	r.heap = len(*h)
	*h = append(*h, r)
}
func (h *revisionHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	r.heap = -1
	return r
}
