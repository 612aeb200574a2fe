package activator

import (
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync/atomic"
	"testing"

	"ebb.dev/ebb/proxy/ir"
)

// TestRepeatable: what the gateway says may run twice is tried again when the pod breaks the connection, and
// is not announced, so that a gateway tries it elsewhere when the activator dies.
func TestRepeatable(t *testing.T) {
	var calls atomic.Int32
	var leaked atomic.Bool
	a := serving(t, func(w http.ResponseWriter, req *http.Request) {
		if _, ok := req.Header[http.CanonicalHeaderKey(ir.RepeatableHeader)]; ok {
			leaked.Store(true)
		}
		if calls.Add(1) == 1 {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.Close()
		}
	})
	for _, c := range []struct {
		method     string
		repeatable bool
		want       int
		announced  bool
	}{
		{"PUT", true, 200, false},
		{"PUT", false, 502, true},
		{"POST", false, 502, true},
		{"GET", false, 200, false},
	} {
		calls.Store(0)
		var announced atomic.Bool
		req := newRequest(t, a, c.method, "/", nil)
		if c.repeatable {
			req.Header.Set(ir.RepeatableHeader, "1")
		}
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
				announced.Store(announced.Load() || code == http.StatusProcessing)
				return nil
			},
		}))
		status, text, _ := do(t, client(t, false), req)
		if status != c.want || announced.Load() != c.announced {
			t.Errorf("%s, repeatable %v: got %d %s, announced %v; want %d, %v", c.method, c.repeatable, status, text, announced.Load(), c.want, c.announced)
		}
	}
	if leaked.Load() {
		t.Errorf("the pod saw %s", ir.RepeatableHeader)
	}
}
