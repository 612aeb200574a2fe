package envoy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
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

func pods(a ...netip.AddrPort) []netip.AddrPort { return a }

func TestSplit(t *testing.T) {
	names := []string{"rev/t/a/1", "rev/t/b/1", "rev/t/c/1"}
	weights := []uint32{20, 30, 50}
	var backends []ir.Backend
	var clusters []cluster
	for i, name := range names {
		backends = append(backends, ir.Backend{Cluster: name, Weight: weights[i]})
		clusters = append(clusters, cluster{name: name, protocol: ir.HTTP1, pods: pods(named(t, name))})
	}
	tag := host("tag", ir.Backend{Cluster: names[0], Weight: 100})
	g := startGateway(t, []ir.VirtualHost{host("split", backends...), tag}, clusters...)
	c := g.client(t, g.external)
	for _, method := range []string{"GET", "POST"} {
		const n = 3000
		got := map[string]int{}
		for range n {
			a := ask(t, c, method, "http://split.test/", nil)
			if a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			got[a.body]++
		}
		for i, name := range names {
			p := float64(weights[i]) / 100
			// Five standard deviations: once in two million runs by chance.
			if mean, bound := n*p, 5*math.Sqrt(n*p*(1-p)); math.Abs(float64(got[name])-mean) > bound {
				t.Errorf("%s: %s got %d of %d, want %.0f±%.0f", method, name, got[name], n, mean, bound)
			}
		}
	}
	for range 20 {
		if a := ask(t, c, "GET", "http://tag.test/", nil); a.body != names[0] {
			t.Fatalf("the tag's host was answered by %q", a.body)
		}
	}
}

// TestTimeouts has a pod that answers slowly in different ways; each host has one bound.
func TestTimeouts(t *testing.T) {
	const name = "rev/t/slow/1"
	var attempts atomic.Int32
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hold := func(r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	slow := pod(t, func(w http.ResponseWriter, r *http.Request) {
		attempts.Add(1)
		switch r.URL.Path {
		case "/never":
			hold(r)
		case "/half":
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			hold(r)
		case "/long":
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			for range 8 {
				select {
				case <-time.After(100 * time.Millisecond): // what the pod does, not what the test waits for
				case <-r.Context().Done():
					return
				}
				_, _ = io.WriteString(w, ".")
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
	const bound = 300 * time.Millisecond
	backend := func(timeouts ir.Timeouts) ir.Backend {
		return ir.Backend{Cluster: name, Weight: 100, Timeouts: timeouts}
	}
	g := startGateway(t, []ir.VirtualHost{
		host("request", backend(ir.Timeouts{Request: bound})),
		host("start", backend(ir.Timeouts{Request: time.Minute, ResponseStart: bound})),
		host("start-only", backend(ir.Timeouts{ResponseStart: bound})),
		host("idle", backend(ir.Timeouts{Idle: bound})),
		host("unbounded", backend(ir.Timeouts{})),
	}, cluster{name: name, protocol: ir.HTTP1, behind: pods(slow)})
	c := g.client(t, g.external)
	hosts := []string{"request", "start", "start-only", "idle"}
	for _, h := range append(hosts, "unbounded") {
		// The request that loads a Route is not under its idle timeout.
		if a := ask(t, c, "GET", "http://"+h+".test/", nil); a.status != 200 {
			t.Fatalf("%s: status %d", h, a.status)
		}
	}
	for _, h := range hosts {
		for _, method := range []string{"GET", "POST"} {
			attempts.Store(0)
			a := ask(t, c, method, "http://"+h+".test/never", nil)
			if a.status != http.StatusGatewayTimeout {
				t.Errorf("%s %s: no answer: status %d (%s), want 504", h, method, a.status, a.body)
			}
			if n := attempts.Load(); n != 1 {
				t.Errorf("%s %s: the pod was asked %d times: a timeout must not be tried again", h, method, n)
			}
		}
	}
	for h, cut := range map[string]bool{"request": true, "start": false, "idle": false, "unbounded": false} {
		a, err := tryAsk(c, "GET", "http://"+h+".test/long", nil)
		if got := err != nil || len(a.body) < 8; got != cut {
			t.Errorf("%s: a long response was cut: %v, want %v (%v, %q)", h, got, cut, err, a.body)
		}
	}
	if a, err := tryAsk(c, "GET", "http://idle.test/half", nil); err == nil {
		t.Errorf("a response that stops was not cut after the idle time: %+v", a)
	}
	t.Run("a client's own timeout headers are ignored", func(t *testing.T) {
		for header, value := range map[string]string{
			"X-Envoy-Upstream-Rq-Timeout-Ms": "1", "X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms": "1", "X-Envoy-Upstream-Stream-Duration-Ms": "1",
		} {
			if a := ask(t, c, "GET", "http://unbounded.test/long", nil, header, value); a.status != 200 || len(a.body) != 8 {
				t.Errorf("%s: status %d, body %q", header, a.status, a.body)
			}
		}
	})
}

func TestWebSocket(t *testing.T) {
	const name = "rev/t/ws/1"
	echo := pod(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	})
	// The request's bound does not cut an upgraded connection.
	g := startGateway(t, []ir.VirtualHost{host("ws", ir.Backend{
		Cluster: name, Weight: 100, Timeouts: ir.Timeouts{Request: 200 * time.Millisecond},
	})}, cluster{name: name, protocol: ir.HTTP1, pods: pods(echo)})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, response, err := websocket.Dial(ctx, "ws://ws.test/", &websocket.DialOptions{HTTPClient: &http.Client{
		Transport: g.client(t, g.external).Transport,
	}})
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, response)
	}
	defer c.CloseNow()
	began := time.Now()
	for i := 0; i < 3 || time.Since(began) < 600*time.Millisecond; i++ {
		text := fmt.Sprint("message ", i)
		if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(ctx)
		if err != nil || string(got) != text {
			t.Fatalf("after %v: read %q, %v", time.Since(began), got, err)
		}
	}
}

func TestProtocols(t *testing.T) {
	proto := func() netip.AddrPort {
		return pod(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-End")
			_, _ = io.WriteString(w, r.Proto)
			w.Header().Set("X-End", "here")
		})
	}
	var hosts []ir.VirtualHost
	var clusters []cluster
	for _, p := range []ir.Protocol{ir.HTTP1, ir.H2C, ir.Auto} {
		name := "rev/t/" + string(p) + "/1"
		hosts = append(hosts, host(string(p), ir.Backend{Cluster: name, Weight: 100}))
		clusters = append(clusters, cluster{name: name, protocol: p, pods: pods(proto())})
	}
	g := startGateway(t, hosts, clusters...)
	one, two := g.client(t, g.external), g.client(t, g.external, http2Only)
	for _, c := range []struct {
		host   string
		client *http.Client
		want   string
	}{
		{"http1", one, "HTTP/1.1"}, {"http1", two, "HTTP/1.1"},
		{"h2c", one, "HTTP/2.0"}, {"h2c", two, "HTTP/2.0"},
		{"auto", one, "HTTP/1.1"}, {"auto", two, "HTTP/2.0"},
	} {
		response, err := c.client.Get("http://" + c.host + ".test/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(body) != c.want {
			t.Errorf("%s asked over %s: the pod saw %q, %v", c.host, response.Proto, body, err)
		}
		// An HTTP/2 response with a length stays one in HTTP/1.1, where it has no trailers.
		if got := response.Trailer.Get("X-End"); got != "here" && !(c.host == "h2c" && c.client == one) {
			t.Errorf("%s asked over %s: trailer %q", c.host, response.Proto, got)
		}
	}
}

// TestRetries has a pod that takes a request and breaks the connection, and a good
// one behind it.
func TestRetries(t *testing.T) {
	const name = "rev/t/flaky/1"
	breaking := func() (netip.AddrPort, *atomic.Int32) {
		var n atomic.Int32
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						n.Add(1)
					}
				}()
			}
		}()
		return netip.MustParseAddrPort(l.Addr().String()), &n
	}
	for _, scope := range []ir.RetryScope{ir.RetrySafe, ir.RetryIdempotent} {
		t.Run("scope "+string(scope), func(t *testing.T) {
			good := named(t, "good")
			g := startGateway(t, []ir.VirtualHost{host("flaky", ir.Backend{Cluster: name, Weight: 100, Retry: scope})},
				cluster{name: name, protocol: ir.HTTP1})
			for method, class := range map[string]string{
				"GET": "safe", "HEAD": "safe", "OPTIONS": "safe", "PUT": "idempotent", "DELETE": "idempotent",
				"POST": "no", "PATCH": "no",
			} {
				bad, seen := breaking()
				g.endpoints(t, cluster{name: name, pods: pods(bad), behind: pods(good)}.endpoints())
				g.awaitEndpoint(t, name, bad, ir.Healthy)
				a := ask(t, g.client(t, g.external), method, "http://flaky.test/", nil)
				want := 503
				if class == "safe" || class == "idempotent" && scope == ir.RetryIdempotent {
					want = 200
				}
				if a.status != want || seen.Load() != 1 {
					t.Errorf("%s: status %d, want %d; the pod that breaks was asked %d times, want once", method, a.status, want, seen.Load())
				}
			}
		})
	}
}

// TestFailover: a pod that refuses connections costs nothing but an attempt, with small
// and big bodies; with nobody at all the answer is 503 at once.
func TestFailover(t *testing.T) {
	const name = "rev/t/down/1"
	count := pod(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, n)
	})
	g := startGateway(t, []ir.VirtualHost{
		host("down", ir.Backend{Cluster: name, Weight: 100}),
		host("none", ir.Backend{Cluster: "rev/t/none/1", Weight: 100}),
	},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(refusing(t), refusing(t)), behind: pods(count)},
		cluster{name: "rev/t/none/1", protocol: ir.HTTP1})
	c := g.client(t, g.external)
	for _, method := range []string{"GET", "POST", "PATCH"} {
		for i := range 20 {
			if a := ask(t, c, method, "http://down.test/", nil); a.status != 200 {
				t.Fatalf("%s %d: status %d: %s", method, i, a.status, a.body)
			}
		}
	}
	for _, size := range []int{100 << 10, 2 << 20, 7 << 20} {
		for i := range 3 {
			a := ask(t, c, "POST", "http://down.test/", bytes.NewReader(make([]byte, size)))
			if a.status != 200 || a.body != fmt.Sprint(size) {
				t.Errorf("body of %d bytes, attempt %d: status %d, the pod read %q", size, i, a.status, a.body)
			}
			// Without a length, as an upload that is made on the way.
			a = ask(t, c, "POST", "http://down.test/", io.MultiReader(bytes.NewReader(make([]byte, size)), strings.NewReader("")))
			if a.status != 200 || a.body != fmt.Sprint(size) {
				t.Errorf("streamed body of %d bytes, attempt %d: status %d, the pod read %q", size, i, a.status, a.body)
			}
		}
	}
	if a := ask(t, c, "GET", "http://none.test/", nil); a.status != 503 {
		t.Errorf("with no endpoint: status %d", a.status)
	}
}

func TestDraining(t *testing.T) {
	const name = "rev/t/drain/1"
	entered, release := make(chan struct{}, 10), make(chan struct{})
	first := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			entered <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "first")
	})
	second, behind := named(t, "second"), named(t, "behind")
	world := cluster{name: name, protocol: ir.HTTP1, pods: pods(first, second), behind: pods(behind)}
	g := startGateway(t, []ir.VirtualHost{host("drain", ir.Backend{Cluster: name, Weight: 100})}, world)
	c := g.client(t, g.external)

	held := make(chan answer, 1)
	go func() { // until one lands on the first pod
		for {
			a, err := tryAsk(c, "GET", "http://drain.test/hold", nil)
			if err != nil || a.body == "first" {
				held <- a
				return
			}
		}
	}()
	<-entered
	mark := func(healths ...ir.Health) {
		t.Helper()
		e := world.endpoints()
		for i, h := range healths {
			e.Priorities[0][i].Health = h
		}
		g.endpoints(t, e)
		for i, h := range healths {
			g.awaitEndpoint(t, name, world.pods[i], h)
		}
	}
	only := func(want string) {
		t.Helper()
		for range 100 {
			if a := ask(t, c, "GET", "http://drain.test/", nil); a.body != want {
				t.Fatalf("answered by %q (%d), want %q", a.body, a.status, want)
			}
		}
	}
	mark(ir.Draining, ir.Healthy)
	only("second")
	mark(ir.Draining, ir.Draining)
	only("behind")
	close(release)
	if a := <-held; a.status != 200 || a.body != "first" {
		t.Errorf("the request held by a draining pod ended with %+v", a)
	}
	mark(ir.Healthy, ir.Draining)
	only("first")
}

// TestActivatorComesBack: however often nobody could be reached, the activator serves
// again with the first request after it is back. Only among many endpoints that are all down may
// it be ejected like them, and then for a second or two.
func TestActivatorComesBack(t *testing.T) {
	for title, down := range map[string]int{"at zero": 0, "beside a pod that is down": 1, "beside five": 5} {
		t.Run(title, func(t *testing.T) {
			const name = "rev/t/back/1"
			activator := refusing(t)
			world := cluster{name: name, protocol: ir.HTTP1, behind: pods(activator)}
			for range down {
				world.pods = append(world.pods, refusing(t))
			}
			g := startGateway(t, []ir.VirtualHost{host("back", ir.Backend{Cluster: name, Weight: 100})}, world)
			c := g.client(t, g.external)
			for range 50 {
				if a := ask(t, c, "GET", "http://back.test/", nil); a.status != 503 {
					t.Fatalf("with nobody there: status %d", a.status)
				}
			}
			l, err := net.Listen("tcp", activator.String())
			if err != nil {
				t.Skip("the port was taken meanwhile: ", err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "back")
			})}
			go func() { _ = server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close() })
			if down > 1 {
				eventually(t, "the activator", func() error {
					a, err := tryAsk(c, "GET", "http://back.test/", nil)
					if err == nil && a.status != 200 {
						err = fmt.Errorf("status %d", a.status)
					}
					return err
				})
			}
			for i := range 20 {
				if a := ask(t, c, "GET", "http://back.test/", nil); a.status != 200 {
					t.Fatalf("request %d after it was back: status %d: %s", i, a.status, a.body)
				}
			}
		})
	}
}
