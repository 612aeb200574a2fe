package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/autoscaler/window"
	"ebb.dev/ebb/proxy/publish"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/metricsdoc"
)

// TestMetricsAreListed: docs/metrics.md lists exactly what the control plane registers, every name
// has the one prefix, and none has more series than its labels' few values give.
func TestMetricsAreListed(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	loads, starts := intake.New(intake.Options{}), coldstart.NewRecorder()
	publisher, err := publish.New(publish.Options{
		Settings: settings.NewStore(), XDS: xds.Options{Metrics: reg},
	})
	if err != nil {
		t.Fatal(err)
	}
	scaler := autoscaler.New(autoscaler.Options{Load: loads})
	scaler.Set(autoscaler.Revision{Namespace: "n", Name: "r", UID: "u", Replicas: 1, Settings: autoscaler.Settings{
		Settings: decision.Settings{MinScale: 1, StableWindow: time.Minute, Target: 1, Utilization: 1},
		Window:   window.Shape{Stable: time.Minute, Panic: time.Second},
	}})
	if err := registerMetrics(reg, "v1", publisher, loads, scaler, starts, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	metricsdoc.Compare(t, "Controller", "", families)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "ebb_") {
			t.Errorf("%s has not the prefix", f.GetName())
		}
		if len(f.GetMetric()) > 20 {
			t.Errorf("%s has %d series already", f.GetName(), len(f.GetMetric()))
		}
	}
}
