package activator

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the process's own; what is asked per revision, the gateways count.
// Labels have a handful of values, whatever the requests.
type metrics struct {
	registry *prometheus.Registry

	answers      [6]prometheus.Counter // by the pod's status divided by 100; 0 for anything else
	refusals     map[string]prometheus.Counter
	inProgress   atomic.Int64
	held         atomic.Int64
	holdSeconds  prometheus.Histogram
	dialFailures prometheus.Counter
	probesPassed prometheus.Counter
	probesMissed prometheus.Counter
	pokes        prometheus.Counter
	reports      prometheus.Counter
	connected    atomic.Int64 // 1 while the control stream is up
	connects     prometheus.Counter
	rejected     prometheus.Counter
	drains       atomic.Int64
}

func newMetrics(revisions func() int) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), refusals: map[string]prometheus.Counter{}}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_activator_" + name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebb_activator_" + name, Help: help}, f))
	}
	number := func(n *atomic.Int64) func() float64 { return func() float64 { return float64(n.Load()) } }

	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ebb_activator_answers_total", Help: "Answers of pods that were passed on, by class of status.",
	}, []string{"class"})
	for i, class := range []string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		m.answers[i] = answers.WithLabelValues(class)
	}
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ebb_activator_refusals_total", Help: "Requests that ended without a pod's answer, by reason.",
	}, []string{"reason"})
	for _, reason := range reasons {
		m.refusals[reason] = refusals.WithLabelValues(reason)
	}
	m.holdSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "ebb_activator_hold_seconds", Help: "How long requests waited for a pod, of those that had to.",
		Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300},
	})
	m.registry.MustRegister(answers, refusals, m.holdSeconds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	gauge("requests_in_progress", "Requests here, waiting or forwarded.", number(&m.inProgress))
	gauge("requests_held", "Requests that wait for a pod.", number(&m.held))
	gauge("revisions", "Revisions known.", func() float64 { return float64(revisions()) })
	gauge("control_connected", "1 while the stream to the control plane is up.", number(&m.connected))
	gauge("drains_in_progress", "preStop hooks that wait.", number(&m.drains))
	m.dialFailures = counter("dial_failures_total", "Connections to pods that could not be made.")
	m.probesPassed = counter("probes_passed_total", "Probes of pods that were answered.")
	m.probesMissed = counter("probes_missed_total", "Probes of pods that were not answered.")
	m.pokes = counter("pokes_total", "Load reports sent at once because a revision needed its first pod.")
	m.reports = counter("reports_total", "Load reports sent.")
	m.connects = counter("control_connects_total", "Streams to the control plane that were opened.")
	m.rejected = counter("control_rejected_total", "Resources of the control plane that were not understood.")
	return m
}

// answer counts a pod's answer.
func (m *metrics) answer(status int) {
	class := status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	m.answers[class].Inc()
}
