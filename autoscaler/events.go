package autoscaler

import (
	"time"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/autoscaler/backlog"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/window"
)

// events are the backlog of a revision and its averages, in the unit of the metric.
type events struct {
	backlog backlog.Backlog
	load    float64        // what it counts as
	until   time.Time      // until then load is in win
	win     *window.Window // nil: there is none to remember
	busy    time.Time      // when there was a backlog last
}

// While an average rises to what waits it is looked at each so often.
const rise = 500 * time.Millisecond

// Backlog takes in the events to be delivered to a revision, by its cluster, and decides anew.
func (s *Scaler) Backlog(cluster string, b backlog.Backlog) {
	now := time.Now()
	s.mu.Lock()
	if b == (backlog.Backlog{}) {
		delete(s.backlogs, cluster)
	} else {
		s.backlogs[cluster] = b
	}
	r := s.byCluster[cluster]
	s.mu.Unlock()
	if r == nil {
		return // Set finds it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events.pass(now)
	r.events.set(b, now)
	s.decide(r, now)
}

func (e *events) set(b backlog.Backlog, now time.Time) {
	if e.backlog = b; b.Events() > 0 {
		e.busy = now
	}
}

// pass lets the time until now go by with the load as it is.
func (e *events) pass(now time.Time) {
	if !now.After(e.until) {
		return
	}
	if e.load > 0 {
		e.win.Add(e.until, now, e.load*now.Sub(e.until).Seconds())
	}
	if e.backlog.Events() > 0 {
		e.busy = now
	}
	e.until = now
}

// count puts the events of r, which is locked, into a decision.
func (r *revision) count(in *decision.Input) {
	e, now := &r.events, in.Now
	e.pass(now)
	n := e.backlog.Events()
	e.load = 0
	if n > 0 {
		switch in.Metric {
		case serving.MetricBacklog:
			e.load = e.backlog.Waiting + e.backlog.InFlight
		case serving.MetricRPS: // they say nothing of a rate: one pod is there for them
		default:
			e.load = e.backlog.Demand
		}
	}
	in.Backlog = decision.Backlog{Events: n, Load: e.load, Serving: in.Metric != serving.MetricBacklog}
	if e.busy.After(in.LastBusy) {
		in.LastBusy = e.busy
	}
	if e.win == nil {
		if e.load == 0 {
			return
		}
		since := now
		if r.current > 0 {
			since = now.Add(-r.seen.Settings.Window.Stable) // there was nothing until now
		} // else from zero: averaged over the time since
		e.win = window.New(r.seen.Settings.Window, since)
	}
	e.win.Reshape(r.seen.Settings.Window)
	avg := e.win.Averages(now)
	in.Backlog.Stable, in.Backlog.Panic = avg.Stable, avg.Panic
	if avg.Stable == 0 && e.load == 0 {
		e.win = nil
	}
}

// nextChange is when the averages are others though nothing is told; zero: they stay, or falling is nothing to anybody.
func (e *events) nextChange(now time.Time, b decision.Backlog, falling bool) time.Time {
	switch {
	case e.win == nil:
		return time.Time{}
	case b.Load > b.Stable*1.0001:
		return now.Add(rise)
	case falling && b.Load < b.Stable:
		return e.win.NextChange(now)
	}
	return time.Time{}
}
