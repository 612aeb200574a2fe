package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ebb.dev/ebb/eventing/natsserver"
)

// natsHealth answers for a NATS server what probes and Prometheus ask.
type natsHealth struct {
	server atomic.Pointer[natsserver.Server]
}

func (h *natsHealth) set(s *natsserver.Server) { h.server.Store(s) }

func (h *natsHealth) registry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(h, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func (h *natsHealth) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := errors.New("starting")
		if s := h.server.Load(); s != nil {
			err = s.Ready()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

// serve listens until the function that it returns is called.
func (h *natsHealth) serve(ctx context.Context, address string, log *slog.Logger) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	server := &http.Server{Handler: h.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
	return func() { _ = server.Close() }, nil
}

var natsStats = []struct {
	name, help string
	kind       prometheus.ValueType
	value      func(natsserver.Stats) float64
}{
	{"connections", "Clients connected.", prometheus.GaugeValue, func(s natsserver.Stats) float64 { return float64(s.Connections) }},
	{"streams", "Topics stored.", prometheus.GaugeValue, func(s natsserver.Stats) float64 { return float64(s.Streams) }},
	{"consumers", "Subscriptions of all topics.", prometheus.GaugeValue, func(s natsserver.Stats) float64 { return float64(s.Consumers) }},
	{"stored_bytes", "Bytes of events on disk.", prometheus.GaugeValue, func(s natsserver.Stats) float64 { return float64(s.Bytes) }},
	{"promised_bytes", "Bytes on disk that topics may grow to.", prometheus.GaugeValue, func(s natsserver.Stats) float64 { return float64(s.Promised) }},
	{"received_bytes_total", "Bytes that clients sent.", prometheus.CounterValue, func(s natsserver.Stats) float64 { return float64(s.InBytes) }},
	{"received_messages_total", "Messages that clients sent.", prometheus.CounterValue, func(s natsserver.Stats) float64 { return float64(s.InMessages) }},
	{"sent_bytes_total", "Bytes sent to clients.", prometheus.CounterValue, func(s natsserver.Stats) float64 { return float64(s.OutBytes) }},
	{"sent_messages_total", "Messages sent to clients.", prometheus.CounterValue, func(s natsserver.Stats) float64 { return float64(s.OutMessages) }},
	{"slow_clients_total", "Clients that were cut off because they read too slowly.", prometheus.CounterValue, func(s natsserver.Stats) float64 { return float64(s.Slow) }},
}

// Describe says nothing: what there is shows when a server runs.
func (*natsHealth) Describe(chan<- *prometheus.Desc) {}

// Collect reads the server.
func (h *natsHealth) Collect(out chan<- prometheus.Metric) {
	s := h.server.Load()
	if s == nil {
		return
	}
	stats := s.Stats()
	for _, one := range natsStats {
		desc := prometheus.NewDesc("ebb_nats_"+one.name, one.help, nil, nil)
		out <- prometheus.MustNewConstMetric(desc, one.kind, one.value(stats))
	}
}
