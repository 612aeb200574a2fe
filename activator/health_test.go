package activator

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/xds"
)

// TestReadiness: alive at once; ready once the control plane is there, and from then on while that is away,
// because it goes on with what it knows; not ready any more when it begins to stop.
func TestReadiness(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody answers there yet
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	a := startActivator(t, &controlPlane{address: l.Addr().String()})
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
	if status, text := get("/readyz"); status != http.StatusServiceUnavailable || text != "not connected to the control plane yet" {
		t.Errorf("without a control plane it is ready: %d %q", status, text)
	}
	discovery := xds.New(xds.Options{Logger: quiet()})
	server := grpc.NewServer()
	discovery.Register(server)
	intake.New(intake.Options{Sink: &observed{}, Logger: quiet()}).Register(server)
	discovery.Open()
	go func() { _ = server.Serve(l) }()
	t.Cleanup(discovery.Close)
	eventually(t, "ready", func() bool { status, _ := get("/readyz"); return status == http.StatusOK })
	server.Stop()
	eventually(t, "the control plane's end to be seen", func() bool { return a.metrics.connected.Load() == 0 })
	if status, text := get("/readyz"); status != http.StatusOK {
		t.Errorf("while the control plane is away it is %d %q", status, text)
	}
	a.health.stopping.Store(true)
	if status, text := get("/readyz"); status != http.StatusServiceUnavailable || text != "stopping" {
		t.Errorf("while it stops it is %d %q", status, text)
	}
}
