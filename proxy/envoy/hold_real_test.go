package envoy_test

import (
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

// mortal is an activator that dies like a killed process: every connection is reset.
type mortal struct {
	address netip.AddrPort
	server  *http.Server
	conns   chan net.Conn
	seen    atomic.Int64
}

func (m *mortal) kill() {
	close(m.conns)
	for c := range m.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	_ = m.server.Close()
}

// startMortal serves handler at an address, or at a free one.
func startMortal(t *testing.T, address string, handler http.HandlerFunc) *mortal {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{address: netip.MustParseAddrPort(l.Addr().String()), conns: make(chan net.Conn, 10_000)}
	m.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m.seen.Add(1)
			handler(w, r)
		}),
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateNew {
				m.conns <- c
			}
		},
		Protocols: new(http.Protocols),
	}
	m.server.Protocols.SetHTTP1(true)
	m.server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = m.server.Serve(l) }()
	t.Cleanup(func() { _ = m.server.Close() })
	return m
}

func echoAs(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", name, r.Method, len(b))
	}
}

// TestHold: what an activator that dies has not begun to pass on is taken to another
// one, whatever its method; what it has begun is not.
func TestHold(t *testing.T) {
	const name = "rev/t/held/1"
	dies := make(chan struct{})
	var with atomic.Int64 // requests whose announcement is sent, if they have one
	first := startMortal(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			w.WriteHeader(http.StatusProcessing)
		}
		with.Add(1)
		<-dies
	})
	second := startMortal(t, "127.0.0.1:0", echoAs("second"))
	hold := &ir.Hold{Name: "activator-0", Activators: []ir.Endpoint{{Name: "activator-0", Address: first.address}, {Name: "activator-1", Address: second.address}}}
	g := startGateway(t, []ir.VirtualHost{host("held", ir.Backend{Cluster: name, Weight: 100})}, cluster{name: name, protocol: ir.Auto, hold: hold})
	c, h2 := g.client(t, g.external), g.client(t, g.external, func(tr *http.Transport) {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	})
	type result struct {
		what string
		want string
		answer
		err error
	}
	results := make(chan result)
	begun, all := 0, 0
	send := func(c *http.Client, method, path string, body io.Reader, want string) {
		all++
		go func() {
			a, err := tryAsk(c, method, "http://held.test"+path, body)
			results <- result{method + " " + path, want, a, err}
		}()
	}
	for _, c := range []*http.Client{c, h2} {
		for _, method := range []string{"GET", "POST", "PATCH", "PUT"} {
			send(c, method, "/", nil, "second "+method+" 0")
		}
		send(c, "POST", "/", strings.NewReader(strings.Repeat("x", 100_000)), "second POST 100000")
		send(c, "POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("x", 300_000))), "second POST 300000")
		send(c, "POST", "/begun", strings.NewReader("once"), "")
		begun++
	}
	eventually(t, "all requests are held", func() error {
		if n := with.Load(); n != int64(all) {
			return fmt.Errorf("%d of %d", n, all)
		}
		return nil
	})
	first.kill()
	for range all {
		switch r := <-results; {
		case r.err != nil:
			t.Errorf("%s: %v", r.what, r.err)
		case r.want == "" && r.status != 503:
			t.Errorf("%s, which had begun: status %d %q, want 503", r.what, r.status, r.body)
		case r.want != "" && r.body != r.want:
			t.Errorf("%s: status %d %q, want %q", r.what, r.status, r.body, r.want)
		}
	}
	close(dies)
	if n := second.seen.Load(); n != int64(all-begun) {
		t.Errorf("the second activator saw %d requests, want %d", n, all-begun)
	}
}

// TestHoldWaitsForTheOnlyActivator: with nobody to stand in, requests wait until it is back.
func TestHoldWaitsForTheOnlyActivator(t *testing.T) {
	const name = "rev/t/alone/1"
	dies := make(chan struct{})
	first := startMortal(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { <-dies })
	hold := &ir.Hold{Name: "activator-0", Activators: []ir.Endpoint{{Name: "activator-0", Address: first.address}}}
	g := startGateway(t, []ir.VirtualHost{host("alone", ir.Backend{Cluster: name, Weight: 100})}, cluster{name: name, protocol: ir.HTTP1, hold: hold})
	c := g.client(t, g.external)
	answers := make(chan answer)
	send := func() {
		go func() {
			a, err := tryAsk(c, "POST", "http://alone.test/", strings.NewReader("hello"))
			if err != nil {
				a.body = err.Error()
			}
			answers <- a
		}()
	}
	send()
	eventually(t, "it is held", func() error {
		if first.seen.Load() == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	first.kill()
	send()
	close(dies)
	startMortal(t, first.address.String(), echoAs("back"))
	for range 2 {
		if a := <-answers; a.body != "back POST 5" {
			t.Errorf("status %d %q", a.status, a.body)
		}
	}
}

// TestHoldIsTransparent: what a request and its answer carry passes a hold unchanged.
func TestHoldIsTransparent(t *testing.T) {
	const name = "rev/t/plain/1"
	activator := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			if c, err := websocket.Accept(w, r, nil); err == nil {
				kind, text, _ := c.Read(r.Context())
				_ = c.Write(r.Context(), kind, text)
				_ = c.CloseNow()
			}
			return
		}
		w.Header().Set("Server", "mine")
		w.Header().Set("Trailer", "X-After")
		fmt.Fprintf(w, "%s %s %s %s %s", r.Host, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Ebb-Revision"), r.URL.RequestURI())
		w.Header().Set("X-After", "trailer")
	})
	hold := &ir.Hold{Name: "activator-0", Activators: []ir.Endpoint{{Name: "activator-0", Address: activator}}}
	g := startGateway(t, []ir.VirtualHost{host("plain", ir.Backend{Cluster: name, Weight: 100})}, cluster{name: name, protocol: ir.Auto, hold: hold})
	for _, protocol := range []string{"h1", "h2"} {
		c := g.client(t, g.external, func(tr *http.Transport) {
			tr.Protocols = new(http.Protocols)
			tr.Protocols.SetHTTP1(protocol == "h1")
			tr.Protocols.SetUnencryptedHTTP2(protocol == "h2")
		})
		r, err := http.NewRequest(http.MethodGet, "http://plain.test/a%20b?x=%7e", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		// One address, the client's: the hold adds none.
		saw := strings.Fields(string(body))
		if err != nil || len(saw) != 5 || net.ParseIP(saw[1]) == nil || saw[0]+" "+strings.Join(saw[2:], " ") != "plain.test http "+name+" /a%20b?x=%7e" {
			t.Errorf("%s: the activator saw %q (%v)", protocol, body, err)
		}
		if res.Header.Get("Server") != "mine" || res.Trailer.Get("X-After") != "trailer" {
			t.Errorf("%s: server %q, trailer %q", protocol, res.Header.Get("Server"), res.Trailer.Get("X-After"))
		}
	}

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://plain.test/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: g.client(t, g.external).Transport}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if err := ws.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := ws.Read(ctx); err != nil || string(got) != "hello" {
		t.Errorf("websocket: %q, %v", got, err)
	}
}
