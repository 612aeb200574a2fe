package activator

import (
	"net/http"
	"strings"
	"testing"
)

// TestReadiness: alive at once; ready once the control plane knows it, and from then on while that is away,
// because it goes on with what it knows; not ready any more when it begins to stop.
func TestReadiness(t *testing.T) {
	c := startControlPlane(t)
	c.stop()
	a := startActivator(t, c)
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.HealthAddr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		status, text, _ := do(t, client(t, false), req)
		return status, strings.TrimSpace(text)
	}
	if status, _ := get("/healthz"); status != http.StatusOK {
		t.Errorf("it is not alive: %d", status)
	}
	if status, text := get("/readyz"); status != http.StatusServiceUnavailable || text != "the control plane does not know it yet" {
		t.Errorf("without a control plane it is ready: %d %q", status, text)
	}
	c.start(t, c.address)
	eventually(t, "ready", func() bool { status, _ := get("/readyz"); return status == http.StatusOK })
	c.stop()
	eventually(t, "the control plane's end to be seen", func() bool { return a.metrics.connected.Load() == 0 })
	if status, text := get("/readyz"); status != http.StatusOK {
		t.Errorf("while the control plane is away it is %d %q", status, text)
	}
	a.health.stopping.Store(true)
	if status, text := get("/readyz"); status != http.StatusServiceUnavailable || text != "stopping" {
		t.Errorf("while it stops it is %d %q", status, text)
	}
	c.start(t, c.address) // the test's end stops it
}
