package activator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthserver "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// serving starts an activator with one revision, whose one pod is the handler.
func serving(t testing.TB, h http.HandlerFunc) *Activator {
	t.Helper()
	c := startControlPlane(t)
	c.set(revisionOf(app(t, "p1", h)))
	return startActivator(t, c)
}

func TestHeaders(t *testing.T) {
	got := make(chan *http.Request, 1)
	a := serving(t, func(_ http.ResponseWriter, req *http.Request) { got <- req })
	req := newRequest(t, a, "GET", "/", nil)
	kept := map[string]string{
		"Forwarded": "for=1.2.3.4;host=h;proto=https", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "h", "X-Forwarded-Proto": "https",
		"X-Request-Id": "7", "Te": "trailers",
	}
	for k, v := range kept {
		req.Header.Set(k, v)
	}
	req.Header.Set("Connection", "X-Hop, Te")
	req.Header.Set("X-Hop", "1")
	req.Header["User-Agent"] = nil
	do(t, client(t, false), req)
	seen := <-got
	for k, v := range kept {
		if g := seen.Header.Values(k); len(g) != 1 || g[0] != v {
			t.Errorf("%s is %q, want %q", k, g, v)
		}
	}
	for _, k := range []string{ir.RevisionHeader, "X-Hop", "User-Agent"} {
		if v := seen.Header.Values(k); len(v) > 0 {
			t.Errorf("%s is %q, want none", k, v)
		}
	}
}

func TestWebsocket(t *testing.T) {
	a := serving(t, func(w http.ResponseWriter, req *http.Request) {
		conn, err := websocket.Accept(w, req, nil)
		if err != nil {
			return
		}
		for {
			kind, data, err := conn.Read(req.Context())
			if err != nil {
				return
			}
			_ = conn.Write(req.Context(), kind, append([]byte("echo "), data...))
		}
	})
	conn, _, err := websocket.Dial(t.Context(), "ws://"+a.Addr().String()+"/", &websocket.DialOptions{
		HTTPHeader: http.Header{ir.RevisionHeader: {testCluster}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, data, err := conn.Read(t.Context()); err != nil || string(data) != "echo "+text {
			t.Fatalf("got %q, %v", data, err)
		}
	}
	if n := a.metrics.inProgress.Load(); n != 1 {
		t.Errorf("%d in progress, want the websocket", n)
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
	eventually(t, "the websocket's end", func() bool { return a.metrics.inProgress.Load() == 0 })
}

func TestGRPC(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	c.set(revisionOf())

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "end"))
		return h(ctx, req)
	}))
	hs := healthserver.NewServer()
	hs.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, hs)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)

	conn, err := grpc.NewClient(a.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := grpc_health_v1.NewHealthClient(conn)
	ctx := metadata.AppendToOutgoingContext(t.Context(), ir.RevisionHeader, testCluster)

	// Held, and the pod found by its own gRPC probe.
	spec := revisionOf(podOf(t, "p1", l.Addr()))
	spec.Protocol = link.Protocol_H2C
	spec.Probe = &link.Probe{Kind: &link.Probe_Grpc{Grpc: &link.Probe_GRPC{Service: "up"}}}
	go c.set(spec)
	var trailer metadata.MD
	res, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "up"}, grpc.Trailer(&trailer))
	if err != nil || res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING || len(trailer["x-trailer"]) != 1 {
		t.Errorf("unary: %v, %v, trailer %v", res, err, trailer)
	}
	// Trailers only.
	if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "none"}); grpcstatus.Code(err) != codes.NotFound {
		t.Errorf("an error of the server became %v", err)
	}
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "up"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{1, 2, 1} {
		res, err := watch.Recv()
		if err != nil || res.GetStatus() != want {
			t.Fatalf("stream: %v, %v, want %v", res, err, want)
		}
		hs.SetServingStatus("up", 3-want)
	}
	// A revision that is not there is a gRPC error with the reason.
	gone := metadata.AppendToOutgoingContext(t.Context(), ir.RevisionHeader, "rev/default/none/1")
	if _, err := client.Check(gone, &grpc_health_v1.HealthCheckRequest{}); grpcstatus.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "rev/default/none/1") {
		t.Errorf("no such revision became %v", err)
	}
}

func TestEventsArriveAsTheyAreSent(t *testing.T) {
	next := make(chan string)
	a := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for s := range next {
			_, _ = fmt.Fprintf(w, "data: %s\n\n", s)
			_ = http.NewResponseController(w).Flush()
			if s == "3" {
				return
			}
		}
	})
	for _, h2c := range []bool{false, true} {
		lines := make(chan string)
		go func() {
			res, err := client(t, h2c).Do(newRequest(t, a, "GET", "/", nil))
			if err != nil {
				t.Error(err)
				close(lines)
				return
			}
			defer func() { _ = res.Body.Close() }()
			for s := bufio.NewScanner(res.Body); s.Scan(); {
				if s.Text() != "" {
					lines <- s.Text()
				}
				if s.Text() == "data: 3" {
					return
				}
			}
		}()
		for _, s := range []string{"1", "2", "3"} {
			next <- s
			if got := <-lines; got != "data: "+s {
				t.Errorf("got %q, want %q", got, s)
			}
		}
	}
	close(next)
}

// A body whose length is known but that comes in drips is passed on as it comes.
func TestDripsOfKnownLength(t *testing.T) {
	more := make(chan struct{})
	a := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		for range 2 {
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			<-more
		}
	})
	res, err := client(t, false).Do(newRequest(t, a, "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for range 2 {
		if _, err := io.ReadFull(res.Body, b); err != nil {
			t.Fatal(err)
		}
		more <- struct{}{}
	}
	_ = res.Body.Close()
}

func TestHead(t *testing.T) {
	a := serving(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1234") })
	for _, h2c := range []bool{false, true} {
		status, body, res := do(t, client(t, h2c), newRequest(t, a, "HEAD", "/", nil))
		if status != 200 || body != "" || res.ContentLength != 1234 {
			t.Errorf("h2c %v: got %d %q, length %d", h2c, status, body, res.ContentLength)
		}
	}
}

func TestEarlyHints(t *testing.T) {
	a := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	for _, h2c := range []bool{false, true} {
		var hints string
		req := newRequest(t, a, "GET", "/", nil)
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error { hints = fmt.Sprint(code, h.Get("Link")); return nil },
		}))
		if status, _, _ := do(t, client(t, h2c), req); status != 200 || hints != "103</style.css>" && hints != "103 </style.css>" {
			t.Errorf("h2c %v: got %d, hints %q", h2c, status, hints)
		}
	}
}

func TestTrailers(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		a := serving(t, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(w, req.Body)
			_ = http.NewResponseController(w).Flush() // HTTP/1.1 has trailers on chunked bodies only
			w.Header().Set(http.TrailerPrefix+"X-Late", req.Trailer.Get("X-Sum"))
		})
		req := newRequest(t, a, "POST", "/", io.MultiReader(strings.NewReader("body")))
		req.Trailer = http.Header{"X-Sum": {"42"}}
		_, body, res := do(t, client(t, h2c), req)
		if body != "body" || res.Trailer.Get("X-Late") != "42" {
			t.Errorf("got %q, trailers %v", body, res.Trailer)
		}
	}
}

// untouched fails the test when it is read before it may be.
type untouched struct {
	io.Reader
	allowed chan struct{}
}

func (u untouched) Read(p []byte) (int, error) {
	select {
	case <-u.allowed:
		return u.Reader.Read(p)
	default:
		return 0, errors.New("read before the pod asked for it")
	}
}

// A client that waits for 100 Continue gets it from the pod, or the pod's refusal, whatever the pod
// speaks. Over HTTP/2 the gateway answers in the pod's place; a Go server takes the header away.
func TestExpectContinue(t *testing.T) {
	for _, p := range []link.Protocol{link.Protocol_HTTP1, link.Protocol_H2C} {
		t.Run(p.String(), func(t *testing.T) { expectContinue(t, p) })
	}
}

func expectContinue(t *testing.T, protocol link.Protocol) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	c.set(revisionOf())
	reached := make(chan struct{})
	pod := app(t, "p1", func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/no" {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		close(reached)
		echo(w, req)
	})
	spec := revisionOf(pod)
	spec.Protocol = protocol
	go c.set(spec)
	req := newRequest(t, a, "PUT", "/yes", untouched{strings.NewReader("hello"), reached})
	req.Header.Set("Expect", "100-continue")
	if status, _, res := do(t, client(t, false), req); status != 200 || res.Header.Get("X-Got-Bytes") != "5" {
		t.Errorf("got %d %v", status, res)
	}
	req = newRequest(t, a, "PUT", "/no", untouched{strings.NewReader("hello"), make(chan struct{})})
	req.Header.Set("Expect", "100-continue")
	if status, _, _ := do(t, client(t, false), req); status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d, want the pod's refusal", status)
	}
}

func TestHTTPProbe(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	seen := make(chan *http.Request, 100)
	spec := revisionOf(app(t, "p1", func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/ready" {
			seen <- req
			if len(seen) < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		echo(w, req)
	}))
	spec.Probe = &link.Probe{Kind: &link.Probe_Http{Http: &link.Probe_HTTP{
		Path: "ready?x=1", Host: "probe.host", Headers: map[string]string{"X-Probe": "yes"},
	}}}
	c.set(spec)
	if status, _, _ := do(t, client(t, false), newRequest(t, a, "GET", "/", nil)); status != 200 {
		t.Errorf("got %d", status)
	}
	if r := <-seen; r.Host != "probe.host" || r.Header.Get("X-Probe") != "yes" || r.URL.RawQuery != "x=1" {
		t.Errorf("probed with %v %v %v", r.Host, r.Header, r.URL)
	}
	if len(seen) != 2 {
		t.Errorf("%d probes, want 3", len(seen)+1)
	}
}

// A pod of a revision for gRPC only is spoken to in HTTP/2, whatever the client speaks.
func TestProtocols(t *testing.T) {
	for _, x := range []struct {
		protocol link.Protocol
		h2c      bool
		want     string
	}{
		{link.Protocol_HTTP1, true, "HTTP/1.1"}, {link.Protocol_H2C, false, "HTTP/2.0"},
		{link.Protocol_AUTO, true, "HTTP/2.0"}, {link.Protocol_AUTO, false, "HTTP/1.1"},
	} {
		c := startControlPlane(t)
		a := startActivator(t, c)
		spec := revisionOf(app(t, "p1", echo))
		spec.Protocol = x.protocol
		c.set(spec)
		_, _, res := do(t, client(t, x.h2c), newRequest(t, a, "GET", "/", nil))
		if got := res.Header.Get("X-Got-Proto"); got != x.want {
			t.Errorf("%v: pod got %s, want %s", x.protocol, got, x.want)
		}
	}
}
