package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// check is one thing that must be so before the controller is ready.
type check struct {
	what string
	is   func(*http.Request) error
}

func unless(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}

// synced waits until the caches hold the world.
type synced struct {
	cache cache.Cache
	done  atomic.Bool
}

// NeedLeaderElection is false: a replica that does not lead answers admission from its caches.
func (*synced) NeedLeaderElection() bool { return false }

func (s *synced) Start(ctx context.Context) error {
	s.done.Store(s.cache.WaitForCacheSync(ctx))
	return nil
}

func (h *health) setChecks(checks []check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = checks
}

// readyz is 200 once the caches hold the world and admission can answer, and, where this replica
// leads, the configuration is complete and the discovery server listens. Otherwise it says what is missing.
func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	if checks == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	for _, c := range checks {
		if err := c.is(r); err != nil {
			http.Error(w, fmt.Sprintf("%s: %v", c.what, err), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = w.Write([]byte("ok\n"))
}
