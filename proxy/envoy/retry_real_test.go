package envoy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"ebb.dev/ebb/proxy/ir"
)

// rejecting is a pod that speaks HTTP/2 and takes no request: it refuses each stream, or
// says with a GOAWAY that it has not looked at it.
func rejecting(t *testing.T, goAway bool) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var seen atomic.Int64
	serve := func(c net.Conn) {
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(c, c)
		_ = framer.WriteSettings()
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				seen.Add(1)
				if goAway {
					// And reads on: a connection that is closed on unread bytes is reset, GOAWAY and all.
					_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
					continue
				}
				_ = framer.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()), &seen
}

// TestRefusedStream: a pod that says it has not begun a request gets no second chance
// with it, and the request goes on to whoever is behind, whatever its method.
func TestRefusedStream(t *testing.T) {
	for kind, goAway := range map[string]bool{"refused": false, "goaway": true} {
		t.Run(kind, func(t *testing.T) {
			const name = "rev/t/refusing/1"
			count := pod(t, func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n)
			})
			g := startGateway(t, []ir.VirtualHost{host("refusing", ir.Backend{Cluster: name, Weight: 100})}, cluster{name: name, protocol: ir.H2C})
			c := g.client(t, g.external)
			for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
				bad, seen := rejecting(t, goAway)
				g.endpoints(t, cluster{name: name, pods: pods(bad), behind: pods(count)}.endpoints())
				g.awaitEndpoint(t, name, bad, ir.Healthy)
				a := ask(t, c, method, "http://refusing.test/", bytes.NewReader(make([]byte, 100_000)))
				if a.status != 200 || a.body != "100000" || seen.Load() != 1 {
					t.Errorf("%s: status %d %q; the pod that refuses was asked %d times", method, a.status, a.body, seen.Load())
				}
			}
		})
	}
}

// TestHoldOfIdempotent: with `ebb.dev/retry: idempotent` an activator is told which requests may
// run twice, so that they are tried again when it dies, and others are not.
func TestHoldOfIdempotent(t *testing.T) {
	const name = "rev/t/again/1"
	dies := make(chan struct{})
	var with atomic.Int64 // requests whose announcement is sent, if they have one
	first := startMortal(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Header.Get(ir.RepeatableHeader) == "" { // as an activator does
			w.WriteHeader(http.StatusProcessing)
		}
		with.Add(1)
		<-dies
	})
	second := startMortal(t, "127.0.0.1:0", echoAs("second"))
	hold := &ir.Hold{Name: "activator-0", Activators: []ir.Endpoint{{Name: "activator-0", Address: first.address}, {Name: "activator-1", Address: second.address}}}
	g := startGateway(t, []ir.VirtualHost{
		host("again", ir.Backend{Cluster: name, Weight: 100, Retry: ir.RetryIdempotent}),
		host("once", ir.Backend{Cluster: name, Weight: 100}),
	}, cluster{name: name, protocol: ir.HTTP1, hold: hold})
	c := g.client(t, g.external)
	type result struct {
		what string
		want int
		answer
		err error
	}
	results := make(chan result)
	all := 0
	for _, h := range []string{"again", "once"} {
		for _, method := range []string{"GET", "PUT", "DELETE", "POST", "PATCH"} {
			want := http.StatusServiceUnavailable
			if method == "GET" || h == "again" && (method == "PUT" || method == "DELETE") {
				want = http.StatusOK
			}
			all++
			go func() {
				a, err := tryAsk(c, method, "http://"+h+".test/", strings.NewReader("hello"))
				results <- result{method + " " + h, want, a, err}
			}()
		}
	}
	eventually(t, "all requests are with the activator", func() error {
		if n := with.Load(); n != int64(all) {
			return fmt.Errorf("%d of %d", n, all)
		}
		return nil
	})
	first.kill()
	for range all {
		if r := <-results; r.err != nil || r.status != r.want {
			t.Errorf("%s: status %d %q (%v), want %d", r.what, r.status, r.body, r.err, r.want)
		}
	}
	close(dies)
}
