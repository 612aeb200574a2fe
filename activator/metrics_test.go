package activator

import (
	"testing"

	"ebb.dev/ebb/test/metricsdoc"
)

// TestMetricsAreListed: docs/metrics.md lists exactly what an activator registers.
func TestMetricsAreListed(t *testing.T) {
	families, err := newMetrics(func() int { return 0 }).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	metricsdoc.Compare(t, "Activator", "ebb_", families)
}
