package envoy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ebb.dev/ebb/proxy/ir"
)

// broken is a pod that takes connections and serves nothing until it is mended.
type broken struct {
	address netip.AddrPort
	tries   atomic.Int64 // connections while it was broken
	works   atomic.Bool
}

// startBroken breaks every connection: before or after it has read a request, by a
// reset or an orderly end.
func startBroken(t *testing.T, read, reset bool) *broken {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broken{address: netip.MustParseAddrPort(l.Addr().String())}
	accepted := make(chan net.Conn)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "mended")
	})}
	go func() { _ = server.Serve(&handedOver{l, accepted}) }()
	t.Cleanup(func() { _ = l.Close(); _ = server.Close() })
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if b.works.Load() {
				accepted <- c
				continue
			}
			b.tries.Add(1)
			go func() {
				defer c.Close()
				if read {
					_, _ = http.ReadRequest(bufio.NewReader(c))
				}
				if reset {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
			}()
		}
	}()
	return b
}

// handedOver is a listener of connections that somebody else accepted.
type handedOver struct {
	net.Listener
	conns chan net.Conn
}

func (h *handedOver) Accept() (net.Conn, error) {
	c, ok := <-h.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// awaitEjected waits until Envoy has taken an endpoint out, or back in.
func (g *gateway) awaitEjected(t *testing.T, cluster string, address netip.AddrPort, ejected bool) {
	t.Helper()
	line := fmt.Sprintf("%s::%s::health_flags::", cluster, address)
	eventually(t, fmt.Sprint(address, " ejected: ", ejected), func() error {
		a, err := tryAsk(http.DefaultClient, "GET", g.Admin+"/clusters", nil)
		if err != nil {
			return err
		}
		_, flags, _ := strings.Cut(a.body, line)
		flags, _, _ = strings.Cut(flags, "\n")
		if got := strings.Contains(flags, "failed_outlier_check"); got != ejected {
			return fmt.Errorf("its flags are %q", flags)
		}
		return nil
	})
}

// TestCrashLoopingPod: first attempts stop going to a pod that breaks connections, with
// requests that must not run twice too, and come back when it works.
func TestCrashLoopingPod(t *testing.T) {
	for kind, start := range map[string]func(*testing.T) *broken{
		"accepts and closes":         func(t *testing.T) *broken { return startBroken(t, false, false) },
		"accepts and resets":         func(t *testing.T) *broken { return startBroken(t, false, true) },
		"takes a request and closes": func(t *testing.T) *broken { return startBroken(t, true, false) },
		"takes a request and resets": func(t *testing.T) *broken { return startBroken(t, true, true) },
	} {
		t.Run(kind, func(t *testing.T) {
			const name = "rev/t/crash/1"
			bad := start(t)
			g := startGateway(t, []ir.VirtualHost{host("crash", ir.Backend{Cluster: name, Weight: 100})},
				cluster{name: name, protocol: ir.HTTP1, pods: pods(bad.address), behind: pods(named(t, "behind"))})
			c := g.client(t, g.external)
			// However slow the machine, most of these come while it is ejected.
			const requests = 300
			for range requests {
				switch a := ask(t, c, "POST", "http://crash.test/", nil); {
				case a.status == 200 && a.body == "behind":
				case a.status == 503: // it may have run
				default:
					t.Fatalf("status %d %q", a.status, a.body)
				}
			}
			if n := bad.tries.Load(); n == 0 || n > requests/2 {
				t.Errorf("the pod that breaks connections had %d attempts of %d requests", n, requests)
			}
			bad.works.Store(true)
			g.awaitEjected(t, name, bad.address, false)
			for range 20 {
				if a := ask(t, c, "POST", "http://crash.test/", nil); a.body != "mended" {
					t.Fatalf("after it was mended: status %d %q", a.status, a.body)
				}
			}
		})
	}
}

// TestOneOfFive: four pods are out, and the one that is good gets everything, as if the
// others were not there: nothing goes on to the activator.
func TestOneOfFive(t *testing.T) {
	const name = "rev/t/five/1"
	world := cluster{name: name, protocol: ir.HTTP1, pods: pods(
		refusing(t), refusing(t), startBroken(t, true, false).address, startBroken(t, false, true).address, named(t, "good"),
	), behind: pods(named(t, "behind"))}
	g := startGateway(t, []ir.VirtualHost{host("five", ir.Backend{Cluster: name, Weight: 100})}, world)
	c := g.client(t, g.external)
	ejected := func() error {
		a, err := tryAsk(http.DefaultClient, "GET", g.Admin+"/clusters", nil)
		if n := strings.Count(a.body, "failed_outlier_check"); err == nil && n != 4 {
			err = fmt.Errorf("%d endpoints are ejected", n)
		}
		return err
	}
	eventually(t, "a while in which four of five are ejected", func() error {
		for range 20 {
			if a := ask(t, c, "GET", "http://five.test/", nil); a.status != 200 {
				t.Fatalf("while not all are ejected: status %d %q", a.status, a.body)
			}
		}
		if err := ejected(); err != nil {
			return err
		}
		var other []string
		for range 50 {
			if a := ask(t, c, "POST", "http://five.test/", nil); a.body != "good" {
				other = append(other, fmt.Sprint(a.status, " ", a.body))
			}
		}
		if err := ejected(); err != nil {
			return err // one was back in between
		}
		if len(other) > 0 {
			t.Fatalf("four of five are ejected, and requests are answered by %q", other)
		}
		return nil
	})
}

// TestSomebodyIsLeft: requests that time out, one after the other, never leave a
// revision without an endpoint: 504 does not become 503.
func TestSomebodyIsLeft(t *testing.T) {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	var hosts []ir.VirtualHost
	var clusters []cluster
	for _, shape := range [][2]int{{0, 1}, {0, 2}, {1, 1}, {2, 1}, {3, 2}} {
		title := fmt.Sprintf("p%db%d", shape[0], shape[1])
		c := cluster{name: "rev/t/" + title + "/1", protocol: ir.HTTP1}
		for priority, into := range []*[]netip.AddrPort{&c.pods, &c.behind} {
			for range shape[priority] {
				*into = append(*into, pod(t, func(_ http.ResponseWriter, r *http.Request) {
					select {
					case <-done:
					case <-r.Context().Done():
					}
				}))
			}
		}
		clusters = append(clusters, c)
		hosts = append(hosts, host(title, ir.Backend{Cluster: c.name, Weight: 100, Timeouts: ir.Timeouts{Request: 20 * time.Millisecond}}))
	}
	g := startGateway(t, hosts, clusters...)
	c := g.client(t, g.external)
	for _, h := range hosts {
		for i := range 40 {
			if a := ask(t, c, "POST", "http://"+h.Name+".test/", nil); a.status != http.StatusGatewayTimeout {
				t.Fatalf("%s: request %d: status %d %q, want 504", h.Name, i, a.status, a.body)
			}
		}
	}
}

// TestAnswersDoNotEject: what an application answers, and that it ends its websockets, is its
// own affair.
func TestAnswersDoNotEject(t *testing.T) {
	const name = "rev/t/moody/1"
	moody := pod(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pod", "moody")
		switch r.URL.Path {
		case "/502":
			w.WriteHeader(http.StatusBadGateway)
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/504":
			w.WriteHeader(http.StatusGatewayTimeout)
		case "/ws":
			if c, err := websocket.Accept(w, r, nil); err == nil {
				_ = c.Close(websocket.StatusNormalClosure, "")
			}
		}
	})
	g := startGateway(t, []ir.VirtualHost{host("moody", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(moody), behind: pods(named(t, "behind"))})
	c := g.client(t, g.external)
	for i := range 20 {
		for _, status := range []int{502, 503, 504} {
			if a := ask(t, c, "GET", fmt.Sprintf("http://moody.test/%d", status), nil); a.status != status || a.header.Get("X-Pod") != "moody" {
				t.Fatalf("/%d, %d: status %d %q", status, i, a.status, a.body)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i := range 20 {
		ws, response, err := websocket.Dial(ctx, "ws://moody.test/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: c.Transport}})
		if err != nil {
			t.Fatalf("websocket %d: %v (%v)", i, err, response)
		}
		if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Fatalf("websocket %d: %v", i, err)
		}
		_ = ws.CloseNow()
	}
}
