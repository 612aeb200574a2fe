package activator

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health is what the activator says of itself: alive while it runs, ready once it
// was connected to the control plane, until it begins to stop. Losing the control plane later
// does not make it unready: it goes on with what it knows.
type health struct {
	connected atomic.Bool
	stopping  atomic.Bool
}

func (h *health) handler(m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case h.stopping.Load():
			http.Error(w, "stopping", http.StatusServiceUnavailable)
		case !h.connected.Load():
			http.Error(w, "not connected to the control plane yet", http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte("ok\n"))
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}
