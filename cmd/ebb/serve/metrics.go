package serve

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/publish"
)

// registerMetrics registers what the control plane's own parts count; the discovery server has
// registered its own. docs/metrics.md lists all of it.
func registerMetrics(reg prometheus.Registerer, version string, publisher *publish.Publisher, loads *intake.Server, scaler *autoscaler.Scaler, starts *coldstart.Recorder, leading func() bool) error {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ebb_build_info", Help: "Always 1; what runs is in the labels.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	leads := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebb_controller_leading", Help: "1 while this replica leads."}, func() float64 {
		if leading() {
			return 1
		}
		return 0
	})
	all := append(starts.Collectors(), build, leads, publisher.Collector(), reporters{loads}, scaler.Collector())
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

var reporting = prometheus.NewDesc("ebb_intake_reporters", "Gateways and activators that report their load.", []string{"kind"}, nil)

// reporters counts who reports load.
type reporters struct{ loads *intake.Server }

func (reporters) Describe(out chan<- *prometheus.Desc) { out <- reporting }

func (r reporters) Collect(out chan<- prometheus.Metric) {
	counts := map[intake.Kind]int{}
	for _, one := range r.loads.Reporters() {
		counts[one.Kind]++
	}
	for kind, name := range map[intake.Kind]string{intake.Gateway: "gateway", intake.Activator: "activator"} {
		out <- prometheus.MustNewConstMetric(reporting, prometheus.GaugeValue, float64(counts[kind]), name)
	}
}
