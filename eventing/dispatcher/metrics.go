package dispatcher

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type counter = atomic.Uint64

// counts are what became of a lane's events.
type counts struct {
	accepted, replied, filtered, retried, dead, dropped, stuck, again counter
}

func (c *counts) each(f func(result string, n uint64)) {
	for _, r := range []struct {
		name string
		n    *counter
	}{
		{"accepted", &c.accepted}, {"replied", &c.replied}, {"filtered", &c.filtered}, {"retried", &c.retried},
		{"dead", &c.dead}, {"reply_dropped", &c.dropped}, {"dead_letter_stuck", &c.stuck}, {"given_out_again", &c.again},
	} {
		f(r.name, r.n.Load())
	}
}

// seriesOf is how many subscriptions have series of their own: those with the most events.
const seriesOf = 1000

// metrics have a few series for each of seriesOf subscriptions that are served, and those of attempts for all together.
type metrics struct {
	d        *Dispatcher
	events   *prometheus.Desc
	inFlight *prometheus.Desc
	window   *prometheus.Desc
	held     *prometheus.Desc
	served   *prometheus.Desc
	without  *prometheus.Desc
	bytes    *prometheus.Desc
	took     *prometheus.HistogramVec
	classes  [6]prometheus.Observer // none, 1xx … 5xx
}

func newMetrics(d *Dispatcher) *metrics {
	of := []string{"namespace", "kind", "name"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ebb_dispatcher_"+name, help, labels, nil)
	}
	m := &metrics{
		d:        d,
		events:   desc("events_total", "What became of events, by subscription; reply_dropped, dead_letter_stuck and given_out_again come beside another result.", append(of, "result")...),
		inFlight: desc("in_flight", "Deliveries in flight, by subscription.", of...),
		window:   desc("window", "How many deliveries may be in flight, by subscription.", of...),
		held:     desc("held_events", "Events taken from the engine and not given back, by subscription.", of...),
		served:   desc("subscriptions", "Subscriptions that are served."),
		without:  desc("subscriptions_without_series", "Subscriptions with few events, which are left out."),
		bytes:    desc("held_bytes", "Memory of events and deliveries, as it is bounded."),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ebb_dispatcher_attempt_seconds", Help: "How long attempts took, by class of the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"class"}),
	}
	for i, status := range []int{0, 100, 200, 300, 400, 500} {
		m.classes[i] = m.took.WithLabelValues(classOf(status))
	}
	return m
}

func (m *metrics) attempt(status int, took time.Duration) {
	class := 0
	if status >= 100 && status <= 599 {
		class = status / 100
	}
	m.classes[class].Observe(took.Seconds())
}

// Describe is of prometheus.Collector.
func (d *Dispatcher) Describe(ch chan<- *prometheus.Desc) {
	m := d.metrics
	for _, desc := range []*prometheus.Desc{m.events, m.inFlight, m.window, m.held, m.served, m.without, m.bytes} {
		ch <- desc
	}
	m.took.Describe(ch)
}

// Collect is of prometheus.Collector. Two subscriptions of one object, as while it is deleted and made anew, are added up.
func (d *Dispatcher) Collect(ch chan<- prometheus.Metric) {
	m := d.metrics
	type owner struct{ namespace, kind, name string }
	type sums struct {
		results                map[string]uint64
		total                  uint64
		flying, held, windowed int
	}
	by := map[owner]*sums{}
	lanes := d.all()
	for _, l := range lanes {
		o := l.now.Load().Owner
		who := owner{o.Namespace, o.Kind, o.Name}
		s := by[who]
		if s == nil {
			s = &sums{results: map[string]uint64{}}
			by[who] = s
		}
		l.count.each(func(result string, n uint64) {
			s.results[result] += n
			s.total += n
		})
		l.mu.Lock()
		s.flying += l.flying
		s.held += len(l.held)
		s.windowed += l.window.whole()
		l.mu.Unlock()
	}
	owners := slices.Collect(maps.Keys(by))
	if len(owners) > seriesOf {
		slices.SortFunc(owners, func(a, b owner) int {
			return cmp.Or(cmp.Compare(by[b].total, by[a].total), strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
		})
		owners = owners[:seriesOf]
	}
	for _, o := range owners {
		s := by[o]
		for result, n := range s.results {
			if n > 0 {
				ch <- prometheus.MustNewConstMetric(m.events, prometheus.CounterValue, float64(n), o.namespace, o.kind, o.name, result)
			}
		}
		for desc, n := range map[*prometheus.Desc]int{m.inFlight: s.flying, m.held: s.held, m.window: s.windowed} {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), o.namespace, o.kind, o.name)
		}
	}
	ch <- prometheus.MustNewConstMetric(m.served, prometheus.GaugeValue, float64(len(lanes)))
	ch <- prometheus.MustNewConstMetric(m.without, prometheus.GaugeValue, float64(len(by)-len(owners)))
	ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.GaugeValue, float64(d.budget.used.Load()))
	m.took.Collect(ch)
}
