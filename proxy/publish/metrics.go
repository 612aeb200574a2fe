package publish

import "github.com/prometheus/client_golang/prometheus"

// Collector gives the Publisher's metrics; register it once.
func (p *Publisher) Collector() prometheus.Collector { return collector{p} }

var (
	objects = prometheus.NewDesc("ebb_publish_objects", "Objects whose configuration is in the discovery server, by kind.", []string{"kind"}, nil)
	loaded  = prometheus.NewDesc("ebb_publish_loaded_routes", "Routes and DomainMappings whose configuration some gateway has.", nil, nil)
	queued  = prometheus.NewDesc("ebb_publish_queue_length", "Objects that wait to be translated.", nil, nil)
	whole   = prometheus.NewDesc("ebb_publish_complete", "1 once the whole configuration was translated, so that gateways are answered.", nil, nil)
)

type collector struct{ p *Publisher }

func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{objects, loaded, queued, whole} {
		out <- d
	}
}

func (c collector) Collect(out chan<- prometheus.Metric) {
	p := c.p
	p.mu.Lock()
	counts := map[string]int{"route": len(p.routes), "domainmapping": len(p.mappings), "revision": len(p.revisions), "secret": len(p.secrets)}
	inUse, complete := 0, 0
	for _, s := range p.served {
		if s.loaded {
			inUse++
		}
	}
	if p.opened {
		complete = 1
	}
	p.mu.Unlock()
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for kind, n := range counts {
		gauge(objects, n, kind)
	}
	gauge(loaded, inUse)
	gauge(queued, p.queue.Len())
	gauge(whole, complete)
}
