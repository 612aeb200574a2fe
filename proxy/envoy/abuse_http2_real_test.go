package envoy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ebb.dev/ebb/proxy/ir"
)

// rawHTTP2 is a client that may send any frame.
type rawHTTP2 struct {
	conn   net.Conn
	framer *http2.Framer
	hpack  *hpack.Encoder
	block  bytes.Buffer

	mu       sync.Mutex
	settings map[http2.SettingID]uint32
	answers  map[uint32]string // by stream: a status, or "reset CODE"
	ended    chan struct{}     // closed when the gateway has ended the connection
	alive    chan struct{}     // closed when it answers the ping that asks for it
}

var areYouThere = [8]byte{'t', 'h', 'e', 'r', 'e', '?'}

func dialHTTP2(t *testing.T, to netip.AddrPort) *rawHTTP2 {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r := &rawHTTP2{
		conn: c, framer: http2.NewFramer(c, c), settings: map[http2.SettingID]uint32{},
		answers: map[uint32]string{}, ended: make(chan struct{}), alive: make(chan struct{}),
	}
	r.framer.AllowIllegalWrites = true
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.hpack = hpack.NewEncoder(&r.block)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := r.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return r
}

// read takes what the gateway sends, until it ends the connection.
func (r *rawHTTP2) read() {
	defer close(r.ended)
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			var stream http2.StreamError
			if errors.As(err, &stream) {
				continue
			}
			return
		}
		r.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			_ = f.ForeachSetting(func(s http2.Setting) error {
				r.settings[s.ID] = s.Val
				return nil
			})
		case *http2.PingFrame:
			if f.Data == areYouThere {
				close(r.alive)
			}
		case *http2.MetaHeadersFrame:
			r.answers[f.StreamID] = f.PseudoValue("status")
		case *http2.RSTStreamFrame:
			if r.answers[f.StreamID] == "" {
				r.answers[f.StreamID] = "reset " + f.ErrCode.String()
			}
		}
		r.mu.Unlock()
	}
}

func (r *rawHTTP2) encode(fields ...string) []byte {
	r.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		_ = r.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(r.block.Bytes())
}

func (r *rawHTTP2) headers(stream uint32, endHeaders, endStream bool, block []byte) error {
	return r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: endHeaders, EndStream: endStream})
}

func (r *rawHTTP2) answer(stream uint32) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers[stream]
}

// await returns the answer to the first stream, or "" when the connection has ended instead.
func (r *rawHTTP2) await(t *testing.T, what string) (answer string) {
	t.Helper()
	eventually(t, what, func() error {
		select {
		case <-r.ended:
			return nil
		default:
		}
		if answer = r.answer(1); answer == "" {
			return errors.New("no answer yet")
		}
		return nil
	})
	return answer
}

// get is a plain request.
func get(path string) []string {
	return []string{":method", "GET", ":scheme", "http", ":authority", "flood.test", ":path", path}
}

// TestHTTP2Floods: a client that keeps a gateway busy with what costs the client nothing is
// disconnected, and the others are served.
func TestHTTP2Floods(t *testing.T) {
	const name = "rev/t/flood/1"
	app := startRecord(t)
	g := startGateway(t, []ir.VirtualHost{host("flood", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(app.address)})
	good := g.client(t, g.external)
	if a := ask(t, good, "GET", "http://flood.test/", nil); a.status != 200 {
		t.Fatalf("status %d", a.status)
	}
	const many = 200_000 // frames; each flood has to be ended long before
	for title, c := range map[string]struct {
		deaf  bool // it does not read what the gateway says
		flood func(r *rawHTTP2, i int) error
	}{
		"rapid reset": {false, func(r *rawHTTP2, i int) error {
			stream := uint32(2*i + 1)
			return errors.Join(r.headers(stream, true, true, r.encode(get("/")...)), r.framer.WriteRSTStream(stream, http2.ErrCodeCancel))
		}},
		"continuation": {false, func(r *rawHTTP2, i int) error {
			if i == 0 {
				return r.headers(1, false, true, r.encode(get("/")...))
			}
			return r.framer.WriteContinuation(1, false, r.encode(fmt.Sprint("x-", i), strings.Repeat("a", 1000)))
		}},
		"empty continuation": {false, func(r *rawHTTP2, i int) error {
			if i == 0 {
				return r.headers(1, false, true, r.encode(get("/")...))
			}
			return r.framer.WriteContinuation(1, false, nil)
		}},
		"ping":     {true, func(r *rawHTTP2, _ int) error { return r.framer.WritePing(false, [8]byte{}) }},
		"settings": {true, func(r *rawHTTP2, _ int) error { return r.framer.WriteSettings() }},
		"empty data": {false, func(r *rawHTTP2, i int) error {
			if i == 0 {
				return r.headers(1, true, false, r.encode(":method", "POST", ":scheme", "http", ":authority", "flood.test", ":path", begun))
			}
			return r.framer.WriteData(1, false, nil)
		}},
		"priority": {false, func(r *rawHTTP2, i int) error {
			return r.framer.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: 0, Weight: 1})
		}},
		"window update": {false, func(r *rawHTTP2, i int) error {
			return r.framer.WriteWindowUpdate(0, 1)
		}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel() // the gateway takes a second to end a connection
			r := dialHTTP2(t, g.external)
			if !c.deaf {
				go r.read()
			}
			var err error
			i := 0
			for ; err == nil && i < many; i++ {
				err = c.flood(r, i)
			}
			if c.deaf {
				go r.read()
			}
			_ = r.framer.WritePing(false, areYouThere)
			select {
			case <-r.ended:
			case <-r.alive:
				t.Errorf("%d frames were taken", i)
			}
			if a := ask(t, good, "GET", "http://flood.test/", nil); a.status != 200 {
				t.Errorf("another client got %d", a.status)
			}
		})
	}
}

// TestHTTP2StreamLimit: a client is told how many streams it may have, and gets no more.
func TestHTTP2StreamLimit(t *testing.T) {
	const name, most = "rev/t/flood/1", 20
	entered, release := make(chan struct{}, 100), make(chan struct{})
	app := pod(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	g := startGatewayWith(t, setup{limits: ir.Limits{Streams: most}}, []ir.VirtualHost{host("flood", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(app)})
	r := dialHTTP2(t, g.external)
	go r.read()
	for i := range most {
		if err := r.headers(uint32(2*i+1), true, true, r.encode(get("/")...)); err != nil {
			t.Fatal(err)
		}
	}
	for range most {
		<-entered
	}
	_ = r.headers(2*most+1, true, true, r.encode(get("/")...))
	_ = r.framer.WritePing(false, areYouThere)
	select {
	case <-r.ended:
	case <-r.alive:
	}
	close(release)
	// What it was told came before either.
	r.mu.Lock()
	told := r.settings[http2.SettingMaxConcurrentStreams]
	r.mu.Unlock()
	if told != most {
		t.Errorf("the client was told that it may have %d streams, want %d", told, most)
	}
	if len(entered) > 0 {
		t.Error("a stream more than allowed reached the pod")
	}
	if a := ask(t, g.client(t, g.external, http2Only), "GET", "http://flood.test/", nil); a.status != 200 {
		t.Errorf("then another client got %d", a.status)
	}
}

// TestBadHTTP2: what HTTP/2 forbids in a request does not reach a pod, and no header carries
// another one or another request into HTTP/1.1.
func TestBadHTTP2(t *testing.T) {
	const name = "rev/t/flood/1"
	app := startRecord(t)
	g := startGateway(t, []ir.VirtualHost{host("flood", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(app.address)})
	const next = " HTTP/1.1\r\nHost: flood.test\r\n\r\nGET /smuggled"
	with := func(more ...string) []string { return append(get("/bad"), more...) }
	bad := map[string][]string{
		"a line end in a header":      with("x-a", "b\r\nx-injected: yes"),
		"a CR in a header":            with("x-a", "b\rc"),
		"a zero byte in a header":     with("x-a", "b\x00c"),
		"a request in a header":       with("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: flood.test\r\n\r\n"),
		"a header name with a colon":  with("x-a:b", "c"),
		"a header name with a space":  with("x a", "c"),
		"a header name with line end": with("x-a: b\r\nx-injected", "c"),
		"large letters in a name":     with("X-A", "b"),
		"no header name":              with("", "b"),
		"chunks":                      with("transfer-encoding", "chunked"),
		"a connection header":         with("connection", "x-a"),
		"two lengths":                 with("content-length", "0", "content-length", "5"),
		"a length that is none":       with("content-length", "x"),
		"a length without a body":     with("content-length", "10"),
		"a request in the path":       {":method", "GET", ":scheme", "http", ":authority", "flood.test", ":path", "/bad" + next},
		"a space in the path":         {":method", "GET", ":scheme", "http", ":authority", "flood.test", ":path", "/bad HTTP/1.1"},
		"an empty path":               {":method", "GET", ":scheme", "http", ":authority", "flood.test", ":path", ""},
		"no path":                     {":method", "GET", ":scheme", "http", ":authority", "flood.test"},
		"no method":                   {":scheme", "http", ":authority", "flood.test", ":path", "/bad"},
		"a request in the method":     {":method", "GET /smuggled HTTP/1.1\r\nHost: flood.test\r\n\r\nGET", ":scheme", "http", ":authority", "flood.test", ":path", "/bad"},
		"a line end in the host":      {":method", "GET", ":scheme", "http", ":authority", "flood.test\r\nx-injected: yes", ":path", "/bad"},
		"no host":                     {":method", "GET", ":scheme", "http", ":path", "/bad"},
		"two paths":                   append(get("/bad"), ":path", "/other"),
		"an unknown pseudo header":    append(get("/bad"), ":x", "y"),
		"a pseudo header too late":    {":method", "GET", ":scheme", "http", ":authority", "flood.test", "x-a", "b", ":path", "/bad"},
		"CONNECT":                     {":method", "CONNECT", ":authority", "flood.test:80"},
		"extended CONNECT":            {":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "http", ":authority", "flood.test", ":path", "/bad"},
		"65 KiB of headers":           with("x-a", strings.Repeat("a", 65<<10)),
	}
	sent := map[string]*rawHTTP2{}
	for title, fields := range bad {
		r := dialHTTP2(t, g.external)
		sent[title] = r
		block := r.encode(fields...)
		go r.read()
		first := block[:min(len(block), 16_000)]
		_ = r.headers(1, len(first) == len(block), true, first)
		for rest := block[len(first):]; len(rest) > 0; {
			part := rest[:min(len(rest), 16_000)]
			rest = rest[len(part):]
			_ = r.framer.WriteContinuation(1, len(rest) == 0, part)
		}
	}
	for title, r := range sent { // all at once: the gateway takes a second to end a connection
		answer := r.await(t, title)
		if answer != "" && !strings.HasPrefix(answer, "4") && !strings.HasPrefix(answer, "reset") {
			t.Errorf("%s: answered %s", title, answer)
		}
	}
	if seen := app.take(); len(seen) > 0 {
		t.Errorf("the pod saw %q", seen)
	}

	// A body that is longer than its length does not become a request of its own.
	r := dialHTTP2(t, g.external)
	go r.read()
	_ = r.headers(1, true, false, r.encode(":method", "POST", ":scheme", "http", ":authority", "flood.test", ":path", begun, "content-length", "4"))
	_ = r.framer.WriteData(1, true, []byte("body"+"GET /smuggled HTTP/1.1\r\nHost: flood.test\r\n\r\n"))
	_ = r.await(t, "a body that is too long")
	if a := ask(t, g.client(t, g.external), "GET", "http://flood.test/good", nil); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
	if seen := app.take(); len(seen) != 1 || seen[0] != "GET flood.test/good" {
		t.Errorf("the pod saw %q", seen)
	}
}
