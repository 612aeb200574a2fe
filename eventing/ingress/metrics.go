package ingress

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"ebb.dev/ebb/eventing/plan"
)

// metrics are by topic, which has to be there, so their number is bounded.
type metrics struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	events     *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	duplicates *prometheus.CounterVec
	unknown    prometheus.Counter
	topics     sync.Map // plan.Address -> *topicMetrics
}

type topicMetrics struct {
	all        *metrics
	labels     prometheus.Labels
	accepted   prometheus.Counter
	seconds    prometheus.Observer
	events     prometheus.Counter
	bytes      prometheus.Counter
	duplicates prometheus.Counter
}

func newMetrics() *metrics {
	labels := []string{"kind", "namespace", "name"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebb_ingress_" + name, Help: help}, append(more, labels...))
	}
	return &metrics{
		requests: counter("requests_total", "Requests with events, by result.", "result"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ebb_ingress_accept_seconds", Help: "From a request to its events being stored.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, labels),
		events:     counter("events_total", "Events stored."),
		bytes:      counter("event_bytes_total", "Bytes of the events stored, attributes and data."),
		duplicates: counter("duplicates_total", "Events that had been stored before."),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebb_ingress_unknown_total", Help: "Requests to a broker or channel that does not exist.",
		}),
	}
}

func (m *metrics) of(a plan.Address) *topicMetrics {
	if t, ok := m.topics.Load(a); ok {
		return t.(*topicMetrics)
	}
	l := prometheus.Labels{"kind": string(a.Kind), "namespace": a.Namespace, "name": a.Name}
	t := &topicMetrics{
		all: m, labels: l, seconds: m.seconds.With(l),
		events: m.events.With(l), bytes: m.bytes.With(l), duplicates: m.duplicates.With(l),
	}
	t.accepted = t.requests("accepted")
	actual, _ := m.topics.LoadOrStore(a, t)
	return actual.(*topicMetrics)
}

func (t *topicMetrics) requests(result string) prometheus.Counter {
	return t.all.requests.WithLabelValues(result, t.labels["kind"], t.labels["namespace"], t.labels["name"])
}

func (m *metrics) forget(a plan.Address) {
	m.topics.Delete(a)
	l := prometheus.Labels{"kind": string(a.Kind), "namespace": a.Namespace, "name": a.Name}
	for _, v := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{m.requests, m.seconds, m.events, m.bytes, m.duplicates} {
		v.DeletePartialMatch(l)
	}
}

// Collectors are the metrics of the ingress, to be registered.
func (i *Ingress) Collectors() []prometheus.Collector {
	m := i.metrics
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebb_ingress_" + name, Help: help}, value)
	}
	return []prometheus.Collector{
		m.requests, m.seconds, m.events, m.bytes, m.duplicates, m.unknown,
		gauge("in_flight", "Requests being worked on.", func() float64 { return float64(len(i.slots)) }),
		gauge("buffered_bytes", "Bytes of the bodies of requests being worked on.", func() float64 { return float64(i.buffered.Load()) }),
	}
}
