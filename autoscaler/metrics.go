package autoscaler

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// shownAtMost bounds the revisions that have series of their own: those with the most
// pods. How many have none is a series too.
const shownAtMost = 1000

// counts of decisions by what they did to the wish.
type counts struct{ up, down, same atomic.Uint64 }

func (c *counts) count(before, after int) {
	switch {
	case after > before:
		c.up.Add(1)
	case after < before:
		c.down.Add(1)
	default:
		c.same.Add(1)
	}
}

// collector reads the Scaler when it is asked, so that a revision without pods has no series
// and costs nothing.
type collector struct {
	scaler                                  *Scaler
	desired, ready, panicking               *prometheus.Desc
	stable, panicked, target, events        *prometheus.Desc
	decisions, known, active, withoutSeries *prometheus.Desc
}

// Collector gives the Scaler's metrics; register it once.
func (s *Scaler) Collector() prometheus.Collector {
	of := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("ebb_autoscaler_"+name, help, []string{"namespace", "revision"}, nil)
	}
	all := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ebb_autoscaler_"+name, help, labels, nil)
	}
	return &collector{
		scaler:        s,
		desired:       of("desired_pods", "Pods wished for, of revisions that have or want some."),
		ready:         of("ready_pods", "Pods that serve."),
		panicking:     of("panic", "1 while the revision is in panic."),
		stable:        of("stable_average", "Load averaged over the stable window, in the unit of the target."),
		panicked:      of("panic_average", "Load averaged over the panic window, in the unit of the target."),
		target:        of("target", "Load that each pod is to carry: requests in flight or a second."),
		events:        of("events", "Events that wait or are in flight for the revision."),
		decisions:     all("decisions_total", "Decisions, by what they did to the wish: up, down or same.", "change"),
		known:         all("revisions", "Revisions that this autoscaler scales."),
		active:        all("active_revisions", "Those of them that have or want pods."),
		withoutSeries: all("revisions_without_series", "Active revisions that are left out because there are too many."),
	}
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.desired, c.ready, c.panicking, c.stable, c.panicked, c.target, c.events, c.decisions, c.known, c.active, c.withoutSeries} {
		out <- d
	}
}

// sample is what is shown of one revision.
type sample struct {
	key                      key
	desired, ready           int
	panicking                bool
	stable, panicked, target float64
	events                   int
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	samples, known := c.scaler.samples()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(v *atomic.Uint64, change string) {
		out <- prometheus.MustNewConstMetric(c.decisions, prometheus.CounterValue, float64(v.Load()), change)
	}
	counts := &c.scaler.counts
	count(&counts.up, "up")
	count(&counts.down, "down")
	count(&counts.same, "same")
	gauge(c.known, float64(known))
	gauge(c.active, float64(len(samples)))
	left := max(len(samples)-shownAtMost, 0)
	gauge(c.withoutSeries, float64(left))
	for _, s := range samples[:len(samples)-left] {
		panicking := 0.0
		if s.panicking {
			panicking = 1
		}
		for d, v := range map[*prometheus.Desc]float64{
			c.desired: float64(s.desired), c.ready: float64(s.ready), c.panicking: panicking,
			c.stable: s.stable, c.panicked: s.panicked, c.target: s.target, c.events: float64(s.events),
		} {
			gauge(d, v, s.key.namespace, s.key.name)
		}
	}
}

// samples are those of the active revisions, those with the most pods first.
func (s *Scaler) samples() (active []sample, known int) {
	s.mu.RLock()
	all := make([]*revision, 0, len(s.byKey))
	for _, r := range s.byKey {
		all = append(all, r)
	}
	s.mu.RUnlock()
	for _, r := range all {
		r.mu.Lock()
		in := &r.last.Input
		if r.decided && (r.desired > 0 || r.current > 0) {
			active = append(active, sample{r.key, r.desired, in.Ready, r.last.Panic, in.Stable, in.Panic, in.Settings.PerPod(), in.Backlog.Events})
		}
		r.mu.Unlock()
	}
	slices.SortFunc(active, func(a, b sample) int {
		if a.desired != b.desired {
			return b.desired - a.desired
		}
		if c := strings.Compare(a.key.namespace, b.key.namespace); c != 0 {
			return c
		}
		return strings.Compare(a.key.name, b.key.name)
	})
	return active, len(all)
}
