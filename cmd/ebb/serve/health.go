package serve

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/publish"
)

// health answers what people and probes ask of the control plane beside its metrics.
type health struct {
	version   string
	mu        sync.Mutex
	mgr       ctrl.Manager
	publisher *publish.Publisher
	members   *members.Registry
	loads     *intake.Server
	scaling   *autoscaler.Reconciler
	settings  *settings.Store
	checks    []check // nil: starting
}

func (h *health) set(mgr ctrl.Manager, publisher *publish.Publisher, activators *members.Registry, loads *intake.Server, scaling *autoscaler.Reconciler, store *settings.Store) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mgr, h.publisher, h.members, h.loads, h.scaling, h.settings = mgr, publisher, activators, loads, scaling, store
}

func (h *health) get() (ctrl.Manager, *publish.Publisher, *intake.Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mgr, h.publisher, h.loads
}

// leading says whether this replica leads.
func (*health) leading(mgr ctrl.Manager) func() bool {
	return func() bool {
		select {
		case <-mgr.Elected():
			return true
		default:
			return false
		}
	}
}

// stands answers that this replica stands by, and knows nothing of load and of gateways.
func (h *health) stands(w http.ResponseWriter) bool {
	h.mu.Lock()
	mgr := h.mgr
	h.mu.Unlock()
	if h.leading(mgr)() {
		return false
	}
	http.Error(w, "another replica leads", http.StatusServiceUnavailable)
	return true
}

func (h *health) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		"/readyz":  http.HandlerFunc(h.readyz),
		"/status":  http.HandlerFunc(h.status),
		"/explain": http.HandlerFunc(h.explain),
	}
}

// status is a snapshot for `ebb status`: who is connected and how far they are.
func (h *health) status(w http.ResponseWriter, _ *http.Request) {
	_, publisher, loads := h.get()
	if publisher == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	if h.stands(w) {
		return
	}
	h.mu.Lock()
	activators := h.members
	h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"version":    h.version,
		"streams":    publisher.Server().Streams(),
		"reporters":  loads.Reporters(),
		"activators": activators.List(),
	})
}

// Explanation is the answer of /explain about one revision.
type Explanation struct {
	// Reasons, sentences, for the number of pods.
	Reasons []string `json:"reasons"`
	// Settings in effect, and where each comes from.
	Settings []settings.Setting `json:"settings"`
	// LastStart from zero, nil where none is known.
	LastStart *LastStart `json:"lastStart,omitempty"`
}

// LastStart is where the time of a start from zero went.
type LastStart struct {
	At       time.Time        `json:"at"` // of the first request
	Parts    []coldstart.Part `json:"parts"`
	Complete bool             `json:"complete"`         // the request was forwarded
	Coarse   bool             `json:"coarse,omitempty"` // the pod's steps count from when the control plane heard of them
}

// explain tells, for ?namespace=&revision=, why the revision has as many pods as it has.
func (h *health) explain(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	scaling, store := h.scaling, h.settings
	h.mu.Unlock()
	if scaling == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	if h.stands(w) {
		return
	}
	namespace, revision := r.URL.Query().Get("namespace"), r.URL.Query().Get("revision")
	all, err := scaling.ExplainSettings(r.Context(), store, namespace, revision)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reasons := scaling.Scaler.Explain(namespace, revision)
	for _, one := range all {
		if one.Name == "class" && one.Value == serving.ClassHPA {
			reasons = []string{"Kubernetes scales it: `kubectl describe hpa " + revision + "` says why"}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	answer := Explanation{Reasons: reasons, Settings: all}
	if s, ok := scaling.Scaler.LastStart(namespace, revision); ok {
		answer.LastStart = &LastStart{At: s.Arrived, Parts: s.Parts(), Complete: s.Complete(), Coarse: s.Coarse}
	}
	_ = json.NewEncoder(w).Encode(answer)
}
