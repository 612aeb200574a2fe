package steady

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// Every failure is seen, and none is hidden by a client that tries again.
func TestLoad(t *testing.T) {
	var resets, refusals atomic.Int64
	var reset, refuse atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case reset.Load():
			resets.Add(1)
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
			return
		case refuse.Load():
			refusals.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	l := Start(dial, []Target{{"a", "http://a/", "http://a/echo"}, {"b", "http://b/", "http://b/echo"}}, 200)
	t.Cleanup(l.Stop)
	if err := l.Await(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	l.Settle()
	good := l.Counts()
	if good.FailedGET+good.FailedPOST > 0 || good.GET == 0 || good.POST == 0 || len(l.Failures()) > 0 {
		t.Fatalf("%+v, %v", good, l.Failures())
	}
	for _, way := range []*atomic.Bool{&reset, &refuse} {
		before := l.Counts()
		way.Store(true)
		for ticker := time.NewTicker(tick); ; <-ticker.C {
			if c := l.Counts().Sub(before); c.FailedGET > 0 && c.FailedPOST > 0 {
				break
			}
		}
		way.Store(false)
		l.Settle()
	}
	if err := l.Await(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	l.Stop()
	c, failures := l.Counts(), l.Failures()
	if n := int(resets.Load() + refusals.Load()); c.FailedGET+c.FailedPOST != n || len(failures) != n {
		t.Errorf("%+v and %d failures, want %d: %d reset and %d refused", c, len(failures), n, resets.Load(), refusals.Load())
	}
	refused := 0
	for _, f := range failures {
		if f.Status == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused != int(refusals.Load()) {
		t.Errorf("%d failures with status 503, want %d", refused, refusals.Load())
	}
	if c.Sub(good).Requests() < 100 || l.Of("a").Requests()+l.Of("b").Requests() != c.Requests() || l.Open("a") != 0 {
		t.Errorf("%+v, of a %+v, of b %+v", c, l.Of("a"), l.Of("b"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Await(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for answers of what has ended: %v", err)
	}
}
