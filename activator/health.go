package activator

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health is what the activator says of itself: alive while it runs, ready once
// the control plane knows it, until it begins to stop. Losing the control plane later
// does not make it unready: it goes on with what it knows.
type health struct {
	joined   atomic.Bool
	stopping atomic.Bool
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
		case !h.joined.Load():
			http.Error(w, "the control plane does not know it yet", http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte("ok\n"))
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}
