package decision

import (
	"math"
	"time"
)

// Settings of one revision, in effect now. Fractions are fractions, not percent.
type Settings struct {
	Target              float64 // requests in flight (or per second) that one pod takes, > 0
	Utilization         float64 // the part of Target to fill, 0 < u <= 1
	TargetBurstCapacity float64 // -1: the activator stays in the path; 0: only at zero
	MinScale, MaxScale  int     // MaxScale 0: no bound
	InitialScale        int
	ActivationScale     int // 0: unset
	MaxScaleUpRate      float64
	MaxScaleDownRate    float64
	PanicThreshold      float64 // wanted / ready pods, 2 = twice as many
	StableWindow        time.Duration
	ScaleDownDelay      time.Duration
	Retention           time.Duration // of the last pod, after the stable window
	ScaleToZero         bool
	Metric              string // "concurrency", "rps" or "ebb.dev/backlog", for people
}

// PerPod is what each pod is to carry: target = max(0.01, total x utilization).
func (s *Settings) PerPod() float64 { return max(minTarget, s.Target*s.Utilization) }

// Input is what is known of a revision at one moment.
type Input struct {
	Settings
	Now           time.Time
	Stable, Panic float64 // averages over the two windows, in the unit of Target
	// Surge is the load that has held through the last tenths of a second, in the unit of Target, and SurgeOf how many
	// requests it was seen by. An average has to fill first; this counts at once, where it is beyond the panic threshold and beyond chance.
	Surge    float64
	SurgeOf  int
	Backlog  Backlog   // events for the revision
	LastBusy time.Time // end of the last period with load or events; zero: never
	InFlight int       // requests known to be in the revision's queue or pods now
	// Complete is true when every moment of the stable window was observed. When it is not, Missing says why and
	// nothing shrinks.
	Complete bool
	Missing  string
	// Until is when the window will be complete if nothing else goes missing; zero: unknown.
	Until     time.Time
	Ready     int  // pods that serve
	Current   int  // replicas asked for so far
	Reachable bool // some Route leads here; min-scale holds only then
	// Initialized: the revision has had its initial scale ready once (known from its status).
	Initialized bool
	// Failed: Kubernetes gave up starting the pods, so the initial scale is no longer waited for.
	Failed bool
}

// Backlog is what is known of the events that are to be delivered to a revision. They are requests that are sure to come, so
// they count beside those that have come: the greater of both.
type Backlog struct {
	Events int // that wait or are in flight
	// Load is what they ask for now, in the unit of Target, and Stable and Panic are its averages over the two windows.
	Load, Stable, Panic float64
	// Serving: they ask for more than the first pods only once one of these serves. Before, nobody knows whether any ever
	// will.
	Serving bool
}

// State is what a decision remembers for the next one. The zero State is a revision never decided on.
// A State that was passed to Decide must not be used again.
type State struct {
	PanicTrigger time.Time // last time the panic threshold was passed; zero: not in panic
	PanicPods    int       // the most wanted during this panic
	decided      bool      // at least once
	Initialized  bool      // the initial scale was ready once
	ActiveSince  time.Time // since when there are pods wanted; zero: none
	wish         int       // before the bounds
	moved        time.Time // when it last changed
	delay        []wish    // falling wishes, the oldest and highest first
	last         int       // the last wish before the delay; it held until now
}

type wish struct {
	at   time.Time
	pods int
}

// Rule is a rule that shaped a decision.
type Rule uint32

// The rules, in the order in which they apply.
const (
	RuleUpRate Rule = 1 << iota
	RuleDownRate
	RulePanic
	RuleSurge
	RuleBacklog
	RuleActivation
	RuleDelay
	RuleInFlight
	RuleEvents
	RuleMissing
	RuleInitial
	RuleTick
	RuleNoZero
	RuleStayActive
	RuleRetention
	RuleMin
	RuleMax
	RuleZero
)

// Decision is a wish and what led to it.
type Decision struct {
	Desired int
	// Excess burst capacity: below 0 the activator belongs into the path.
	Excess int
	Panic  bool
	// Next is when this decision changes though nothing is reported; zero: never. The decay of the windows is
	// not in it (window.NextChange).
	Next time.Time
	// Decaying is true when forgetting old load can lower the wish.
	Decaying bool

	Rules                 Rule
	StableWish, PanicWish int
	Input                 Input
}

const (
	minTarget = 0.01
	// A wish that has changed does not fall (again) for this long. The reference decides each two seconds, so its max-scale-down-rate is that
	// for two seconds; and a wish at the edge of two numbers goes up and down no more often.
	tick = 2 * time.Second
)

// Decide applies the standard rules to in. The order is that of the reference: windows, rates, panic,
// activation scale, scale-down delay, then what must not be given up (load in flight, missing data, initial
// scale, the way to zero), then the bounds.
func Decide(in Input, st State) (Decision, State) {
	var d Decision
	if !st.decided && in.Initialized {
		// A new leader: what there is was wished for until now.
		st.last = in.Current
	}
	st.decided = true
	if in.count() {
		d.Rules |= RuleBacklog
	}
	d.Input = in
	ready := float64(max(in.Ready, 1))
	target := in.PerPod()

	// Windows and rates.
	up := math.Ceil(max(in.MaxScaleUpRate, 1) * ready)
	down := 0.0
	if in.Reachable {
		down = math.Floor(float64(in.Ready) / max(in.MaxScaleDownRate, 1))
	}
	rawStable, rawPanic := pods(in.Stable, target), pods(in.Panic, target)
	stable, panicked := min(max(rawStable, down), up), min(max(rawPanic, down), up)
	d.StableWish, d.PanicWish = int(stable), int(panicked)
	if stable < rawStable || panicked < rawPanic {
		d.Rules |= RuleUpRate
	}
	if stable > rawStable {
		d.Rules |= RuleDownRate
		d.Decaying = true
	}
	desired := d.StableWish

	// Panic.
	surge := 0
	if in.surges(ready * target) {
		surge = int(min(max(pods(in.Surge, target), down), up))
	}
	if !st.PanicTrigger.IsZero() && !in.Now.Before(st.PanicTrigger.Add(in.StableWindow)) {
		st.PanicTrigger, st.PanicPods = time.Time{}, 0
	}
	if rawPanic/ready >= in.PanicThreshold && rawPanic > 0 || surge > 0 {
		st.PanicTrigger = in.Now
	}
	if !st.PanicTrigger.IsZero() {
		d.Panic = true
		d.Rules |= RulePanic
		if surge > max(st.PanicPods, d.StableWish, d.PanicWish, in.Current) {
			d.Rules |= RuleSurge
		}
		st.PanicPods = max(st.PanicPods, d.StableWish, d.PanicWish, surge, in.Current)
		desired = st.PanicPods
		d.wake(st.PanicTrigger.Add(in.StableWindow))
	}

	// Not for a wish that only the rate keeps above zero: that would never end.
	if (rawStable > 0 || rawPanic > 0) && in.ActivationScale > desired {
		desired = in.ActivationScale
		d.Rules |= RuleActivation
	}

	if in.ScaleDownDelay > 0 {
		desired = d.delayed(in, &st, desired)
	} else {
		st.delay, st.last = nil, desired
	}

	d.Excess = excess(in)

	// What must not be given up.
	if in.InFlight > 0 && desired == 0 {
		desired = max(1, in.ActivationScale)
		d.Rules |= RuleInFlight
	}
	if in.Backlog.Events > 0 && desired == 0 {
		desired = max(1, in.ActivationScale)
		d.Rules |= RuleEvents
	}
	if !in.Complete && desired < in.Current {
		desired = in.Current
		d.Rules |= RuleMissing
		if in.Until.After(in.Now) {
			d.wake(in.Until)
		}
	}
	initial := in.InitialScale
	if in.MaxScale > 0 {
		initial = min(initial, in.MaxScale)
	}
	st.Initialized = st.Initialized || in.Initialized || in.Failed || in.Ready >= initial
	if !st.Initialized && desired < initial {
		desired = initial
		d.Rules |= RuleInitial
	}

	if until := st.moved.Add(tick); desired < st.wish && in.Now.Before(until) {
		desired = st.wish
		d.Rules |= RuleTick
		d.wake(until)
	}
	if desired != st.wish {
		st.wish, st.moved = desired, in.Now
	}

	floor := in.MinScale
	if !in.Reachable {
		floor = 0
	}
	if desired == 0 && floor == 0 {
		desired = d.toZero(in, st)
	}
	if desired < floor {
		desired = floor
		d.Rules |= RuleMin
	}
	if in.MaxScale > 0 && desired > in.MaxScale {
		desired = in.MaxScale
		d.Rules |= RuleMax
	}

	switch {
	case desired == 0 && in.Current == 0:
		st.ActiveSince = time.Time{}
	case desired == 0: // its last pods are draining: a decision meanwhile is the same one
	case st.ActiveSince.IsZero():
		st.ActiveSince = in.Now
	}
	d.Desired = desired
	switch {
	case in.Stable <= 0 || desired <= floor:
	case desired > 1:
		d.Decaying = true
	default: // the last pod: only the end of the window changes that
		d.wake(in.LastBusy.Add(in.StableWindow))
	}
	return d, st
}

// count makes the greater one of requests and events the load, and says whether that is the events anywhere.
func (in *Input) count() bool {
	b := &in.Backlog
	if in.waking() {
		return false
	}
	more := b.Stable > in.Stable || b.Panic > in.Panic || b.Load > in.Surge
	in.Stable, in.Panic = max(in.Stable, b.Stable), max(in.Panic, b.Panic)
	if b.Load > in.Surge { // it has been stored, so it holds
		in.Surge, in.SurgeOf = b.Load, int(b.Load)
	}
	return more
}

// waking: the first pods are on their way and none has answered.
func (in *Input) waking() bool {
	return in.Backlog.Serving && in.Ready == 0 && in.Current <= max(1, in.ActivationScale, in.InitialScale, in.MinScale)
}

// surges: the surge is beyond the panic threshold of what the ready pods are to carry, and has more requests than load that they are
// enough for has by chance (arrivals at random; four standard deviations).
func (in *Input) surges(carry float64) bool {
	if in.Surge < in.PanicThreshold*carry || in.Surge <= 0 {
		return false
	}
	usual := float64(in.SurgeOf) * carry / in.Surge
	return float64(in.SurgeOf) > usual+4*math.Sqrt(usual)
}

// pods is how many a load needs; what a sum of many small numbers is off by makes none.
func pods(load, target float64) float64 { return math.Ceil(load/target - 1e-6) }

// toZero says whether a revision that nothing asks for may lose its last pod now: it stays for a whole stable
// window after it became active and after its last load, and for the retention after that.
func (d *Decision) toZero(in Input, st State) int {
	if in.Current == 0 {
		return 0
	}
	if !in.ScaleToZero {
		d.Rules |= RuleNoZero
		return 1
	}
	idle := st.ActiveSince
	if idle.IsZero() {
		idle = in.Now // pods that are met for the first time
	}
	if in.LastBusy.After(idle) {
		idle = in.LastBusy
	}
	idle = idle.Add(in.StableWindow)
	at := idle.Add(in.Retention)
	if in.Failed && !in.LastBusy.After(st.ActiveSince) {
		at = in.Now
	}
	if in.Now.Before(at) {
		d.Rules |= RuleStayActive
		if !in.Now.Before(idle) {
			d.Rules |= RuleRetention
		}
		d.wake(at)
		return 1
	}
	d.Rules |= RuleZero
	return 0
}

// delayed is the highest wish of the last ScaleDownDelay, this one included.
func (d *Decision) delayed(in Input, st *State, desired int) int {
	from := in.Now.Add(-in.ScaleDownDelay)
	q := st.delay
	for len(q) > 0 && !q[0].at.After(from) {
		q = q[1:]
	}
	for len(q) > 0 && q[len(q)-1].pods <= desired {
		q = q[:len(q)-1]
	}
	// The queue falls strictly, so it is at most as long as there were pods. The last wish held until now.
	if st.last > desired {
		for len(q) > 0 && q[len(q)-1].pods <= st.last {
			q = q[:len(q)-1]
		}
		q = append(q, wish{in.Now, st.last})
	}
	q = append(q, wish{in.Now, desired})
	st.delay, st.last = q, desired
	if top := q[0]; top.pods > desired {
		d.Rules |= RuleDelay
		d.wake(top.at.Add(in.ScaleDownDelay))
		return top.pods
	}
	return desired
}

func (d *Decision) wake(at time.Time) {
	if d.Next.IsZero() || at.Before(d.Next) {
		d.Next = at
	}
}

// excess burst capacity = floor(ready x total - target-burst-capacity - panic average); -1 keeps the
// activator in the path always, 0 only at zero.
func excess(in Input) int {
	switch {
	case in.TargetBurstCapacity < 0:
		return -1
	case in.TargetBurstCapacity == 0:
		return 0
	}
	return int(math.Floor(float64(in.Ready)*in.Target - in.TargetBurstCapacity - in.Panic))
}
