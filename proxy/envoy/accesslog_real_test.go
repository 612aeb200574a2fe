package envoy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
)

// TestRequestLog: a line of JSON for each request of a listener that logs, with what it was and who answered,
// and without the query or any header that may hold a secret; none of a listener that does not.
func TestRequestLog(t *testing.T) {
	name := ir.RevisionCluster("team", "shop-00001", "u")
	rest := bootstrapParts(t, envoy.BootstrapConfig{Admin: "unix:" + filepath.Join(t.TempDir(), "admin"), Metrics: "127.0.0.1:0"})
	g := startGatewayWith(t, setup{bootstrap: rest, listener: func(l *ir.Listener) { l.Log = l.Audience == ir.External }},
		[]ir.VirtualHost{host("shop", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.Auto, stats: ir.RevisionStats("team", "shop", "shop-00001"), pods: []netip.AddrPort{answering(t)}})
	call := func(to netip.AddrPort, path string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+to.String()+path, strings.NewReader("12345"))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "shop.test"
		request.Header = http.Header{"User-Agent": {"tester"}, "Authorization": {"Bearer secret-1"}, "Cookie": {"secret-2"}, "X-Request-Id": {"mine"}}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	call(g.internal, "/404")
	call(g.external, "/201?token=secret-3")
	call(g.external, "/503")
	var lines []map[string]any
	g.Await(t, "two lines", func() error {
		lines = nil
		for line := range strings.Lines(g.Log()) {
			var one map[string]any
			if json.Unmarshal([]byte(line), &one) == nil {
				lines = append(lines, one)
			}
		}
		if len(lines) < 2 {
			return fmt.Errorf("there are %d", len(lines))
		}
		return nil
	})
	if len(lines) != 2 || strings.Contains(g.Log(), "secret") {
		t.Errorf("the log is\n%s", g.Log())
	}
	for key, want := range map[string]any{
		"listener": "external", "method": "PUT", "host": "shop.test", "path": "/201", "protocol": "HTTP/1.1", "status": 201.0, "flags": "-", "details": "via_upstream",
		"request_bytes": 5.0, "response_bytes": 0.0, "client": "127.0.0.1", "user_agent": "tester", "revision": "revision/team/shop/shop-00001", "upstream_attempts": 1.0,
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
	for _, key := range []string{"time", "duration_ms", "upstream_ms", "upstream", "request_id"} {
		if lines[0][key] == nil {
			t.Errorf("%s is not there: %v", key, lines[0])
		}
	}
	if lines[1]["status"] != 503.0 {
		t.Errorf("the second line is %v", lines[1])
	}
}
