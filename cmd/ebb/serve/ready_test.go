package serve

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestReadyz: alive from the beginning; ready only while every check passes, and otherwise it says
// which does not.
func TestReadyz(t *testing.T) {
	h := &health{}
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.handlers()[path].ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	expect := func(status int, text string) {
		t.Helper()
		if have, said := ask("/readyz"); have != status || said != text {
			t.Errorf("/readyz answers %d %q, want %d %q", have, said, status, text)
		}
		if have, _ := ask("/healthz"); have != http.StatusOK {
			t.Errorf("/healthz answers %d", have)
		}
	}
	expect(http.StatusServiceUnavailable, "starting")
	failing := map[string]error{}
	var checks []check
	for _, what := range []string{"admission", "caches", "configuration", "discovery"} {
		failing[what] = errors.New("not yet")
		checks = append(checks, check{what, func(*http.Request) error { return failing[what] }})
	}
	h.setChecks(checks)
	for _, c := range checks {
		expect(http.StatusServiceUnavailable, c.what+": not yet")
		delete(failing, c.what)
	}
	expect(http.StatusOK, "ok")
	failing["discovery"] = errors.New("gone")
	expect(http.StatusServiceUnavailable, "discovery: gone")
}
