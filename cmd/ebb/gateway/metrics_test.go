package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestMetricsPage: the page of metrics is passed on whole, however many series it has, without those of
// revisions that had no request; where Envoy does not answer it is an error and no empty page.
func TestMetricsPage(t *testing.T) {
	page := strings.Repeat("envoy_cluster_upstream_rq_active{revision=\"shop-00001\"} 1\n", 100_000)
	envoy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/stats/prometheus?usedonly" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(page))
	}))
	defer envoy.Close()
	probes := probes(NewAdmin(strings.TrimPrefix(envoy.URL, "http://")), new(atomic.Bool)).Handler
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		probes.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w
	}
	if w := ask(); w.Code != http.StatusOK || w.Body.String() != page {
		t.Errorf("the answer is %d with %d bytes, want %d", w.Code, w.Body.Len(), len(page))
	}
	envoy.Close()
	if w := ask(); w.Code != http.StatusServiceUnavailable {
		t.Errorf("without Envoy it is %d", w.Code)
	}
}
