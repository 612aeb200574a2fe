package serve

import (
	"encoding/json"
	"net/http"
	"sync"

	ctrl "sigs.k8s.io/controller-runtime"

	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/publish"
)

// health answers what people and probes ask of the control plane beside its metrics.
type health struct {
	mu        sync.Mutex
	mgr       ctrl.Manager
	publisher *publish.Publisher
	loads     *intake.Server
	scaler    *autoscaler.Scaler
}

func (h *health) set(mgr ctrl.Manager, publisher *publish.Publisher, loads *intake.Server, scaler *autoscaler.Scaler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mgr, h.publisher, h.loads, h.scaler = mgr, publisher, loads, scaler
}

func (h *health) get() (ctrl.Manager, *publish.Publisher, *intake.Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mgr, h.publisher, h.loads
}

func (h *health) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		"/readyz":  http.HandlerFunc(h.readyz),
		"/status":  http.HandlerFunc(h.status),
		"/explain": http.HandlerFunc(h.explain),
	}
}

// readyz is 200 once admission can answer and, where this replica leads, the configuration is complete.
func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	mgr, publisher, _ := h.get()
	if mgr == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	if err := mgr.GetWebhookServer().StartedChecker()(r); err != nil {
		http.Error(w, "admission: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	select {
	case <-mgr.Elected():
		if !publisher.Complete() {
			http.Error(w, "the configuration is not complete yet", http.StatusServiceUnavailable)
			return
		}
	default:
	}
	w.WriteHeader(http.StatusOK)
}

// status is a snapshot for `ebb status`: who is connected and how far they are.
func (h *health) status(w http.ResponseWriter, _ *http.Request) {
	_, publisher, loads := h.get()
	if publisher == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"streams":   publisher.Server().Streams(),
		"reporters": loads.Reporters(),
	})
}

// explain tells, for ?namespace=&revision=, why the revision has as many pods as it has.
func (h *health) explain(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	scaler := h.scaler
	h.mu.Unlock()
	if scaler == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(scaler.Explain(r.URL.Query().Get("namespace"), r.URL.Query().Get("revision")))
}
