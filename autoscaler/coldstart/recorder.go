package coldstart

import (
	"container/list"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ebb.dev/ebb/apis/serving"
)

// Step of a start, in the order in which they are reached.
type Step int

const (
	Scaled    Step = iota // the scale is written
	Created               // there is a pod
	Scheduled             // it has a node
	Pulled                // its images are there
	Started               // its containers run
	Probed                // it answered the activator's probe, or Kubernetes called it ready
	Forwarded             // the first request is on its way to it
	steps
)

var names = [steps]string{"scaled", "created", "scheduled", "pulled", "started", "probed", "forwarded"}

func (s Step) String() string { return names[s] }

const (
	// keep is how many revisions' last starts are kept, of about 300 bytes each.
	keep = 4096
	// A start that nothing has ended for so long gives way to the next one.
	abandoned = 10 * time.Minute
	// How much earlier than the request a pod's creation may seem to be: it is in whole seconds.
	skew = time.Second
)

// Start is one start of a revision from zero.
type Start struct {
	Arrived time.Time        // when the control plane heard of the first request
	At      [steps]time.Time // the zero time: not reached, or not known
	Coarse  bool             // steps of the pod are known only as the control plane saw them, not from its node
}

// Complete says whether the first request was forwarded.
func (s *Start) Complete() bool { return !s.At[Forwarded].IsZero() }

// Part is what one step took.
type Part struct {
	Step string `json:"step"`
	// Since the first request, and since the step before, in milliseconds.
	Since float64 `json:"sinceMilliseconds"`
	Took  float64 `json:"tookMilliseconds"`
}

// Parts lists the steps that were reached and are known.
func (s *Start) Parts() []Part {
	var out []Part
	last := s.Arrived
	for step, at := range s.At {
		if at.IsZero() {
			continue
		}
		if at.Before(last) {
			at = last // clocks of two machines
		}
		out = append(out, Part{Step(step).String(), milliseconds(at.Sub(s.Arrived)), milliseconds(at.Sub(last))})
		last = at
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

type key struct{ namespace, revision string }

type entry struct {
	key   key
	start Start
}

// Recorder keeps starts. Its methods may be called from several goroutines; those of a nil
// Recorder do nothing.
type Recorder struct {
	took *prometheus.HistogramVec
	all  prometheus.Histogram

	mu     sync.Mutex
	byKey  map[key]*list.Element
	oldest *list.List // of *entry, by arrival
}

// NewRecorder returns one that is empty.
func NewRecorder() *Recorder {
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	r := &Recorder{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ebb_coldstart_step_seconds", Help: "What each step of a start from zero took.", Buckets: buckets,
		}, []string{"step"}),
		all: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ebb_coldstart_seconds", Help: "Starts from zero: from the first request to its way to a pod.", Buckets: buckets,
		}),
		byKey: map[key]*list.Element{}, oldest: list.New(),
	}
	for _, name := range names {
		r.took.WithLabelValues(name) // every series is there from the beginning
	}
	return r
}

// Collectors are the recorder's metrics.
func (r *Recorder) Collectors() []prometheus.Collector { return []prometheus.Collector{r.took, r.all} }

// Arrived begins a start, unless one is going on.
func (r *Recorder) Arrived(namespace, revision string, at time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{namespace, revision}
	if e := r.byKey[k]; e != nil {
		old := &e.Value.(*entry).start
		if !old.Complete() && at.Sub(old.Arrived) < abandoned {
			return
		}
		r.oldest.Remove(e)
	}
	r.byKey[k] = r.oldest.PushBack(&entry{k, Start{Arrived: at, Coarse: true}})
	if r.oldest.Len() > keep {
		first := r.oldest.Front()
		r.oldest.Remove(first)
		delete(r.byKey, first.Value.(*entry).key)
	}
}

// going returns the start that goes on, nil when there is none. r is locked.
func (r *Recorder) going(namespace, revision string) *Start {
	e := r.byKey[key{namespace, revision}]
	if e == nil {
		return nil
	}
	if s := &e.Value.(*entry).start; !s.Complete() {
		return s
	}
	return nil
}

// Going says whether a start goes on, so that its pods are worth a look.
func (r *Recorder) Going(namespace, revision string) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.going(namespace, revision) != nil
}

// Scaled notes that the scale was written.
func (r *Recorder) Scaled(namespace, revision string, at time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.going(namespace, revision); s != nil {
		s.reach(Scaled, at)
	}
}

// Pod notes what a pod of the revision says of its start, now.
func (r *Recorder) Pod(namespace, revision string, times serving.StartTimes, now time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.going(namespace, revision)
	if s == nil || times.Created.Before(s.Arrived.Add(-skew)) {
		return // of the time before
	}
	if !times.Coarse {
		// The node's own times replace those at which they were heard of.
		s.Coarse = false
		for step, at := range map[Step]time.Time{Created: times.Created, Scheduled: times.Scheduled, Pulled: times.Pulled, Started: times.Started} {
			if !at.IsZero() {
				s.At[step] = at
			}
		}
		return
	}
	s.reach(Created, now)
	if !times.Scheduled.IsZero() {
		s.reach(Scheduled, now)
	}
	if !times.Started.IsZero() {
		s.reach(Started, now)
	}
}

func (s *Start) reach(step Step, at time.Time) {
	if s.At[step].IsZero() {
		s.At[step] = at
	}
}

// Forwarded ends a start: after held the first request was on its way, and after probed
// (0: not known) a pod had answered a probe.
func (r *Recorder) Forwarded(namespace, revision string, probed, held time.Duration) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.going(namespace, revision)
	if s == nil {
		return
	}
	if probed > 0 {
		s.At[Probed] = s.Arrived.Add(probed)
	}
	s.At[Forwarded] = s.Arrived.Add(held)
	for _, p := range s.Parts() {
		r.took.WithLabelValues(p.Step).Observe(p.Took / 1000)
	}
	r.all.Observe(held.Seconds())
}

// Forget drops a revision that is gone.
func (r *Recorder) Forget(namespace, revision string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.byKey[key{namespace, revision}]; e != nil {
		r.oldest.Remove(e)
		delete(r.byKey, key{namespace, revision})
	}
}

// Last is the newest start of a revision; ok false when none is known.
func (r *Recorder) Last(namespace, revision string) (s Start, ok bool) {
	if r == nil {
		return s, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byKey[key{namespace, revision}]
	if e == nil {
		return s, false
	}
	return e.Value.(*entry).start, true
}
