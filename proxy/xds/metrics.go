package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the server. Types that are not in kind.go are counted as "other":
// clients may invent names.
type metrics struct {
	streams   *prometheus.GaugeVec
	responses *prometheus.CounterVec
	resources *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	rejects   *prometheus.CounterVec
	acks      *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebb_xds_" + name, Help: help}, []string{"type"})
	}
	m := &metrics{
		streams:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ebb_xds_streams", Help: "Open streams."}, []string{"role"}),
		responses: counter("responses_total", "Responses sent."),
		resources: counter("resources_total", "Resources sent or removed."),
		bytes:     counter("resource_bytes_total", "Bytes of the resources sent."),
		rejects:   counter("rejected_total", "Resources that a client rejected."),
		acks: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ebb_xds_answer_seconds",
			Help:    "Time from a response to its acknowledgement or rejection.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}}, []string{"type", "answer"}),
	}
	for _, role := range []Role{Gateway, Activator, Other} {
		m.streams.WithLabelValues(string(role))
	}
	for _, name := range labels() {
		for _, c := range []*prometheus.CounterVec{m.responses, m.resources, m.bytes, m.rejects} {
			c.WithLabelValues(name)
		}
		for _, answer := range []string{"ack", "nack"} {
			m.acks.WithLabelValues(name, answer)
		}
	}
	if reg != nil {
		for _, c := range []prometheus.Collector{m.streams, m.responses, m.resources, m.bytes, m.rejects, m.acks} {
			reg.MustRegister(c)
		}
	}
	return m
}

// labels are all that label gives.
func labels() []string {
	all := []string{"other"}
	for _, url := range []string{ClusterType, EndpointType, SecretType, ListenerType, ScopeType, RouteType} {
		all = append(all, label(url))
	}
	return all
}

func label(url string) string {
	if rules(url) == (rule{order: 6}) {
		return "other"
	}
	return shortType(url)
}

func (m *metrics) response(url string) { m.responses.WithLabelValues(label(url)).Inc() }
func (m *metrics) rejected(url string) { m.rejects.WithLabelValues(label(url)).Inc() }
func (m *metrics) sent(url string, n, bytes int) {
	m.resources.WithLabelValues(label(url)).Add(float64(n))
	m.bytes.WithLabelValues(label(url)).Add(float64(bytes))
}

func (m *metrics) answered(url string, d time.Duration, rejected bool) {
	answer := "ack"
	if rejected {
		answer = "nack"
	}
	m.acks.WithLabelValues(label(url), answer).Observe(d.Seconds())
}
