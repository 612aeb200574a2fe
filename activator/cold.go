package activator

import (
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// Names of the load metrics that say once, after a start from zero, how long the
// first request was held, and after how long a pod served, in milliseconds since that request.
const (
	ColdHeldMetric   = "ebb.cold_held_ms"
	ColdProbedMetric = "ebb.cold_probed_ms"
)

// cold is a start of one revision from zero as it is seen here; the revision calls it
// under its lock.
type cold struct {
	going, over  bool
	since        time.Duration // arrival of the first request
	probed, held time.Duration // after since; 0: not yet
}

// begin notes a request that found no pod.
func (c *cold) begin(now time.Duration) {
	if !c.going {
		*c = cold{going: true, since: now}
	}
}

// serves notes that a pod serves.
func (c *cold) serves(now time.Duration) {
	if c.going && c.probed == 0 {
		c.probed = now - c.since
	}
}

// forwards notes that a request that waited has its pod.
func (c *cold) forwards(now time.Duration) {
	if c.going {
		c.held = now - c.since
		c.going, c.over = false, true
	}
}

// take returns what is to be reported, once; held is above 0 then.
func (c *cold) take() (held, probed time.Duration) {
	if !c.over {
		return 0, 0
	}
	c.over = false
	return max(c.held, 1), c.probed
}

// loadMetrics are those of a report.
func (s sample) loadMetrics() []*endpointv3.EndpointLoadMetricStats {
	all := []*endpointv3.EndpointLoadMetricStats{{MetricName: ConcurrencyMetric, TotalMetricValue: s.concurrencyMS}}
	if s.coldHeld > 0 {
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		all = append(all,
			&endpointv3.EndpointLoadMetricStats{MetricName: ColdHeldMetric, TotalMetricValue: ms(s.coldHeld)},
			&endpointv3.EndpointLoadMetricStats{MetricName: ColdProbedMetric, TotalMetricValue: ms(s.coldProbed)})
	}
	return all
}
