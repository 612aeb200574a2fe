package envoy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ebb.dev/ebb/proxy/ir"
)

// begun is the path of requests that are good until their body is bad: their head may reach a pod.
const begun = "/begun"

// record is a pod that remembers what reached it, but for what is [begun].
type record struct {
	address netip.AddrPort
	mu      sync.Mutex
	seen    []string
}

func startRecord(t *testing.T) *record {
	r := &record{}
	r.address = pod(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != begun {
			r.mu.Lock()
			r.seen = append(r.seen, req.Method+" "+req.Host+req.RequestURI)
			r.mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, req.Body)
	})
	return r
}

// take returns what reached the pod since it was last asked.
func (r *record) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// rawHTTP1 sends bytes on a connection of their own and returns the status of each answer until
// the gateway closes it; the request should make it do so.
func rawHTTP1(t *testing.T, to netip.AddrPort, text string) (statuses []int) {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	go func() { _, _ = io.WriteString(c, text) }() // it may not take all
	reader := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			return statuses
		}
		statuses = append(statuses, res.StatusCode)
		_, _ = io.Copy(io.Discard, res.Body)
		if res.Close {
			return statuses
		}
	}
}

// TestBadHTTP1: what is not a request, or could be read in two ways, is refused by the gateway; nothing of it
// reaches a pod, and nothing that is hidden in a body does.
func TestBadHTTP1(t *testing.T) {
	const name = "rev/t/web/1"
	app := startRecord(t)
	g := startGateway(t, []ir.VirtualHost{host("web", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(app.address)})
	const (
		head     = "Host: web.test\r\nConnection: close\r\n"
		smuggled = "GET /smuggled HTTP/1.1\r\nHost: web.test\r\n\r\n"
		post     = "POST / HTTP/1.1\r\n" + head
		chunks   = "POST " + begun + " HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n"
	)
	for title, text := range map[string]string{
		"a length and chunks":          post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"chunks and a length":          post + "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + smuggled,
		"two lengths":                  post + "Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + smuggled,
		"the same length twice":        post + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"a list of lengths":            post + "Content-Length: 0, 40\r\n\r\n" + smuggled,
		"a length with a sign":         post + "Content-Length: +0\r\n\r\n" + smuggled,
		"a negative length":            post + "Content-Length: -1\r\n\r\n" + smuggled,
		"a hexadecimal length":         post + "Content-Length: 0x0\r\n\r\n" + smuggled,
		"an unknown coding":            post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"chunks that are not last":     post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled,
		"two codings":                  post + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a coding with a space":        post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a length with a space":        post + "Content-Length : 5\r\n\r\n" + smuggled,
		"a chunk of no size":           chunks + "zz\r\n\r\n" + smuggled,
		"a chunk of too much":          chunks + "FFFFFFFFFFFFFFFFFF\r\nabc\r\n" + smuggled,
		"a chunk's extension":          chunks + "2;\nxx\r\n4a\r\n0\r\n\r\n" + smuggled,
		"a zero byte":                  "GET / HTTP/1.1\r\n" + head + "X-A: b\x00c\r\n\r\n",
		"HTTP/1.0":                     "GET / HTTP/1.0\r\n" + head + "\r\n",
		"HTTP/0.9":                     "GET /\r\n\r\n",
		"HTTP/1.2":                     "GET / HTTP/1.2\r\n" + head + "\r\n",
		"HTTP/2.0 as text":             "GET / HTTP/2.0\r\n" + head + "\r\n",
		"no host":                      "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
		"an empty host":                "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
		"two hosts":                    "GET / HTTP/1.1\r\n" + head + "Host: other.test\r\n\r\n",
		"a host with a path":           "GET / HTTP/1.1\r\nHost: web.test/x\r\nConnection: close\r\n\r\n",
		"a host with a user":           "GET / HTTP/1.1\r\nHost: a@web.test\r\nConnection: close\r\n\r\n",
		"another host in the target":   "GET http://other.test/ HTTP/1.1\r\n" + head + "\r\n",
		"CONNECT":                      "CONNECT web.test:80 HTTP/1.1\r\n" + head + "\r\n",
		"an unknown method":            "FOO / HTTP/1.1\r\n" + head + "\r\n",
		"a method in small letters":    "get / HTTP/1.1\r\n" + head + "\r\n",
		"a method that is none":        "G(T / HTTP/1.1\r\n" + head + "\r\n",
		"a target that is none":        "GET * HTTP/1.1\r\n" + head + "\r\n",
		"a target with a space":        "GET /a b HTTP/1.1\r\n" + head + "\r\n",
		"a target with a fragment":     "GET /a#b HTTP/1.1\r\n" + head + "\r\n",
		"a target with raw bytes":      "GET /\xff\xfe HTTP/1.1\r\n" + head + "\r\n",
		"a target with a control code": "GET /a\x01b HTTP/1.1\r\n" + head + "\r\n",
		"a header name that is none":   "GET / HTTP/1.1\r\n" + head + "X(y: 1\r\n\r\n",
		"no header name":               "GET / HTTP/1.1\r\n" + head + ": 1\r\n\r\n",
		"a header without a colon":     "GET / HTTP/1.1\r\n" + head + "abc\r\n\r\n",
		"65 KiB of headers":            "GET / HTTP/1.1\r\n" + head + "X-Big: " + strings.Repeat("a", 65<<10) + "\r\n\r\n",
		"65 KiB of target":             "GET /" + strings.Repeat("a", 65<<10) + " HTTP/1.1\r\n" + head + "\r\n",
		"more than 200 headers":        "GET / HTTP/1.1\r\n" + head + strings.Repeat("X-A: 1\r\n", 200) + "\r\n",
		"65 KiB of trailers":           chunks + "0\r\nX-T: " + strings.Repeat("a", 65<<10) + "\r\n\r\n" + smuggled,
		"TLS where there is none":      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		got := rawHTTP1(t, g.external, text)
		if len(got) != 1 || got[0] < 400 || got[0] > 501 {
			t.Errorf("%s: answered %v, want one refusal", title, got)
		}
		if seen := app.take(); len(seen) > 0 {
			t.Errorf("%s: the pod saw %q", title, seen)
		}
	}
	for title, c := range map[string]struct{ text, want string }{
		"the host of the target wins":      {"GET http://web.test/abs HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n", "GET web.test/abs"},
		"nothing is done to a path":        {"GET //a/../b%2fc/./%2e%2e/d%5Ce\\f?x=../y HTTP/1.1\r\n" + head + "\r\n", "GET web.test//a/../b%2fc/./%2e%2e/d%5Ce\\f?x=../y"},
		"60 KiB of headers are taken":      {"GET /big HTTP/1.1\r\n" + head + "X-Big: " + strings.Repeat("a", 60<<10) + "\r\n\r\n", "GET web.test/big"},
		"190 headers are taken":            {"GET /many HTTP/1.1\r\n" + head + strings.Repeat("X-A: 1\r\n", 188) + "\r\n", "GET web.test/many"},
		"underscores are taken in headers": {"GET /under HTTP/1.1\r\n" + head + "X_Y: 1\r\n\r\n", "GET web.test/under"},
	} {
		got := rawHTTP1(t, g.external, c.text)
		if seen := app.take(); len(got) != 1 || got[0] != 200 || len(seen) != 1 || seen[0] != c.want {
			t.Errorf("%s: answered %v; the pod saw %q, want %q", title, got, seen, c.want)
		}
	}
}

// TestHeaderValuesStayOnTheirLine: a line end inside a header's value does not begin another header.
func TestHeaderValuesStayOnTheirLine(t *testing.T) {
	const name = "rev/t/lines/1"
	headers := make(chan http.Header, 1)
	app := pod(t, func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header })
	g := startGateway(t, []ir.VirtualHost{host("lines", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(app)})
	for title, between := range map[string]string{"folded": "\r\n ", "folded with a tab": "\r\n\t", "CR": "\r", "LF folded": "\n "} {
		got := rawHTTP1(t, g.external, "GET / HTTP/1.1\r\nHost: lines.test\r\nConnection: close\r\nX-A: b"+between+"X-Injected: yes\r\n\r\n")
		if len(got) == 1 && got[0] == 400 {
			continue
		}
		if h := <-headers; h.Get("X-Injected") != "" || strings.ContainsAny(h.Get("X-A"), "\r\n") {
			t.Errorf("%s: the pod saw %q", title, h)
		}
	}
}

// TestSlowHeaders: who sends a request's headers byte by byte is turned away after a time, and
// who sends nothing after another one; a request that takes longer than both is not cut.
func TestSlowHeaders(t *testing.T) {
	const name = "rev/t/slow/1"
	g := startGatewayWith(t, setup{limits: ir.Limits{RequestHeaders: 200 * time.Millisecond, Idle: 400 * time.Millisecond}},
		[]ir.VirtualHost{host("slow", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(pod(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				select {
				case <-time.After(time.Second): // what the pod does
				case <-r.Context().Done():
				}
			}
		}))})
	c, err := net.Dial("tcp", g.external.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	go func() {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: slow.test\r\nX-Slow: "); err != nil {
			return
		}
		for range tick.C { // never ends by itself
			if _, err := io.WriteString(c, "a"); err != nil {
				return
			}
		}
	}()
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != http.StatusRequestTimeout {
		t.Errorf("headers without end: %v, %v; want 408", res, err)
	}
	idle, err := net.Dial("tcp", g.external.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	_ = idle.SetDeadline(time.Now().Add(30 * time.Second))
	if n, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection without a request: %d bytes, %v; want its end", n, err)
	}
	if a := ask(t, g.client(t, g.external), "GET", "http://slow.test/long", nil); a.status != 200 {
		t.Errorf("a long request: status %d", a.status)
	}
}
