package activator

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// app starts a pod's server, HTTP/1.1 and h2c, and returns its description.
func app(t testing.TB, name string, h http.HandlerFunc) *link.Pod {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return podOf(t, name, s.Listener.Addr())
}

func podOf(t testing.TB, name string, a net.Addr) *link.Pod {
	t.Helper()
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return &link.Pod{Name: name, Address: host, Port: uint32(n)}
}

func revisionOf(pods ...*link.Pod) *link.Revision {
	return &link.Revision{
		Cluster: testCluster, Namespace: "default", Name: "hello-00001", Protocol: link.Protocol_AUTO,
		Timeout: durationpb.New(20 * time.Second), Pods: pods,
	}
}

// client speaks HTTP/1.1, or h2c, to the activator.
func client(t testing.TB, h2c bool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 1000, ExpectContinueTimeout: 5 * time.Second}
	tr.Protocols.SetHTTP1(!h2c)
	tr.Protocols.SetUnencryptedHTTP2(h2c)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func dial(t testing.TB, a *Activator) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func newRequest(t testing.TB, a *Activator, method, path string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr().String()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "hello.default.example.com"
	req.Header.Set(ir.RevisionHeader, testCluster)
	return req
}

func do(t testing.TB, c *http.Client, req *http.Request) (int, string, *http.Response) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return 0, "", nil
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(b), res
}

func echo(w http.ResponseWriter, req *http.Request) {
	n, _ := io.Copy(io.Discard, req.Body)
	w.Header().Set("X-Got-Bytes", strconv.FormatInt(n, 10))
	w.Header().Set("X-Got-Proto", req.Proto)
	_, _ = io.WriteString(w, req.Host+req.URL.RequestURI())
}

// From zero to zero: held, poked, described, forwarded, reported, idle.
func TestOneRevisionsLife(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	c.set(revisionOf())
	body := make([]byte, 20<<20)
	_, _ = rand.Read(body)

	var all sync.WaitGroup
	for i := range 20 {
		for _, h2c := range []bool{false, true} {
			all.Go(func() {
				size := 100 << 10
				if i == 0 {
					size = len(body)
				}
				status, text, res := do(t, client(t, h2c), newRequest(t, a, "POST", "/a?b;c=%zz", bytes.NewReader(body[:size])))
				want := "HTTP/1.1"
				if h2c {
					want = "HTTP/2.0"
				}
				if status != 200 || text != "hello.default.example.com/a?b;c=%zz" || res.Header.Get("X-Got-Bytes") != strconv.Itoa(size) || res.Header.Get("X-Got-Proto") != want {
					t.Errorf("got %d %q %v", status, text, res)
				}
			})
		}
	}
	c.await(t, "a report of 40 held requests", func() bool {
		r := c.reported(testCluster)
		return len(r) > 0 && inProgress(r[len(r)-1]) == 40
	})
	pod := app(t, "p1", echo)
	c.set(revisionOf(pod))
	all.Wait()

	c.await(t, "a last report of zeros", func() bool {
		r := c.reported(testCluster)
		last := r[len(r)-1]
		return inProgress(last) == 0 && last.GetUpstreamLocalityStats()[0].GetTotalIssuedRequests() == 0
	})
	var issued, ok, onPod uint64
	var area float64
	for _, r := range c.reported(testCluster) {
		l := r.GetUpstreamLocalityStats()[0]
		issued += l.GetTotalIssuedRequests()
		ok += l.GetTotalSuccessfulRequests()
		area += l.GetLoadMetricStats()[0].GetTotalMetricValue()
		for _, e := range l.GetUpstreamEndpointStats() {
			if e.GetAddress().GetSocketAddress().GetPortValue() == pod.GetPort() {
				onPod += e.GetTotalIssuedRequests()
			}
		}
	}
	if issued != 40 || ok != 40 || onPod != 40 || area <= 0 {
		t.Errorf("reported %d issued, %d succeeded, %d on the pod, %v request·ms", issued, ok, onPod, area)
	}
}

func TestPokeComesAtOnce(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		res, err := client(t, false).Do(newRequest(t, a, "GET", "/", nil).WithContext(ctx))
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	defer leave()
	// The revision was not described yet: the poke does not wait for that.
	c.set(&link.Revision{Cluster: "rev/other/one/1"})
	c.await(t, "a report", func() bool { return len(c.reported(testCluster)) > 0 })
}

func TestRefusals(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	failing := revisionOf()
	failing.Failure = "image \"nope\": not found"
	c.set(failing)
	unknown := newRequest(t, a, "GET", "/", nil)
	unknown.Header.Set(ir.RevisionHeader, "rev/default/other/2")
	malformed := newRequest(t, a, "GET", "/", nil)
	malformed.Header.Del(ir.RevisionHeader)
	for _, x := range []struct {
		req    *http.Request
		status int
		text   string
	}{
		{newRequest(t, a, "GET", "/", nil), 503, "image \"nope\": not found"},
		{unknown, 404, "rev/default/other/2"},
		{malformed, 400, ir.RevisionHeader},
	} {
		status, text, _ := do(t, client(t, false), x.req)
		if status != x.status || !strings.Contains(text, x.text) {
			t.Errorf("got %d %q, want %d with %q", status, text, x.status, x.text)
		}
	}
	grpc := newRequest(t, a, "POST", "/s/m", nil)
	grpc.Header.Set("Content-Type", "application/grpc")
	status, _, res := do(t, client(t, true), grpc)
	if status != 200 || res.Header.Get("Grpc-Status") != "14" || !strings.Contains(res.Header.Get("Grpc-Message"), "not found") {
		t.Errorf("gRPC got %d %v", status, res.Header)
	}
}

// The app counts how many requests it has; pods and requests come and go.
func TestExactConcurrencyUnderLoad(t *testing.T) {
	for _, limit := range []int32{1, 10} {
		t.Run(strconv.Itoa(int(limit)), func(t *testing.T) {
			c := startControlPlane(t)
			a := startActivator(t, c)
			var most atomic.Int32
			pods := make([]*link.Pod, 3)
			for i := range pods {
				var now atomic.Int32
				pods[i] = app(t, "p"+strconv.Itoa(i), func(w http.ResponseWriter, req *http.Request) {
					n := now.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(time.Millisecond) // the app's work
					now.Add(-1)
					echo(w, req)
				})
			}
			set := func(pods ...*link.Pod) {
				r := revisionOf(pods...)
				r.ContainerConcurrency = uint32(limit)
				c.set(r)
			}
			set(pods[0])
			cl := client(t, false)
			var all sync.WaitGroup
			for range 40 {
				all.Go(func() {
					for range 25 {
						if status, text, _ := do(t, cl, newRequest(t, a, "GET", "/", nil)); status != 200 {
							t.Errorf("got %d %s", status, text)
						}
					}
				})
			}
			for i := range 30 {
				set(pods[i%3], pods[(i+1)%3])
			}
			all.Wait()
			if most.Load() > limit {
				t.Errorf("a pod had %d requests at once, the limit is %d", most.Load(), limit)
			}
		})
	}
}

// Two activators with disjoint pods: each sends to its own only.
func TestPodsAreShared(t *testing.T) {
	c := startControlPlane(t)
	var calls [2]atomic.Int32
	pods := make([]*link.Pod, 2)
	var activators []*Activator
	for i := range pods {
		name := "act-" + strconv.Itoa(i)
		pods[i] = app(t, "p"+strconv.Itoa(i), func(_ http.ResponseWriter, req *http.Request) {
			calls[i].Add(1)
			if got := req.Header.Get("X-Through"); got != name {
				t.Errorf("pod %d got a request through %s, want %s", i, got, name)
			}
		})
		activators = append(activators, startActivator(t, c, func(o *Options) { o.Name = name }))
		pods[i].Activator = activators[i].table.env.self
	}
	r := revisionOf(pods...)
	r.ContainerConcurrency = 1
	c.set(r)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			req := newRequest(t, activators[i%2], "GET", "/", nil)
			req.Header.Set("X-Through", "act-"+strconv.Itoa(i%2))
			if status, text, _ := do(t, client(t, false), req); status != 200 {
				t.Errorf("got %d %s", status, text)
			}
		})
	}
	all.Wait()
	if calls[0].Load() != 10 || calls[1].Load() != 10 {
		t.Errorf("pods got %d and %d requests, want 10 each", calls[0].Load(), calls[1].Load())
	}
}

// A client that leaves frees its place, with a body that nobody read too.
func TestClientLeaves(t *testing.T) {
	for _, body := range []string{"", strings.Repeat("x", 50<<10)} {
		c := startControlPlane(t)
		a := startActivator(t, c)
		c.set(revisionOf())
		conn := dial(t, a)
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nX-Ebb-Revision: "+testCluster+"\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
		c.await(t, "a held request", func() bool {
			r := c.reported(testCluster)
			return len(r) > 0 && inProgress(r[len(r)-1]) == 1
		})
		_ = conn.Close()
		c.await(t, "none held", func() bool {
			r := c.reported(testCluster)
			return inProgress(r[len(r)-1]) == 0
		})
	}
}

// A pod that is gone: what had not reached it goes to another one, a POST that had
// is answered 502, a GET that had runs again.
func TestKilledPod(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := podOf(t, "dead", l.Addr())
	dead.Ready = true
	_ = l.Close()
	alive := app(t, "alive", echo)
	alive.Ready = true
	c.set(revisionOf(dead, alive))
	for range 5 {
		if status, text, _ := do(t, client(t, false), newRequest(t, a, "POST", "/", strings.NewReader("body"))); status != 200 {
			t.Errorf("got %d %s", status, text)
		}
	}

	var calls atomic.Int32
	breaks := app(t, "breaks", func(w http.ResponseWriter, req *http.Request) {
		if calls.Add(1) == 1 {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.Close()
			return
		}
		echo(w, req)
	})
	breaks.Ready = true
	c.set(revisionOf(breaks))
	c.await(t, "subscription", func() bool { return c.asked[testCluster] })
	for method, want := range map[string]int{"POST": 502, "GET": 200} {
		c.set(revisionOf(breaks))
		eventually(t, "the new pod", func() bool { return a.only(testCluster, "breaks") })
		calls.Store(0)
		if status, text, _ := do(t, client(t, false), newRequest(t, a, method, "/", nil)); status != want {
			t.Errorf("%s got %d %s, want %d", method, status, text, want)
		}
	}
}

// only says whether the revision has just this pod.
func (a *Activator) only(cluster, pod string) bool {
	r, _ := a.table.lookup(cluster)
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pods) == 1 && r.pods[pod] != nil
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 20 s for: %s", what)
		}
	}
}

// The control plane goes away and comes back: what was known is used meanwhile, and
// the new stream says what is known.
func TestControlPlaneRestarts(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	c.set(revisionOf(app(t, "p1", echo)))
	cl := client(t, false)
	get := func() {
		t.Helper()
		if status, text, _ := do(t, cl, newRequest(t, a, "GET", "/", nil)); status != 200 {
			t.Errorf("got %d %s", status, text)
		}
	}
	get()
	c.stop()
	get()
	c.start(t, c.address)
	c.await(t, "a second stream", func() bool { return len(c.initial) == 2 })
	if c.initial[1][testCluster] != version(c.revisions[testCluster]) {
		t.Errorf("the new stream named versions %v", c.initial[1])
	}
	get()
	bad := revisionOf(&link.Pod{Name: "p", Address: "nonsense", Port: 1})
	c.set(bad)
	c.await(t, "a rejection", func() bool { return len(c.nacks) > 0 })
	if !strings.Contains(c.nacks[0], "nonsense") {
		t.Errorf("rejected with %q", c.nacks[0])
	}
	get()
}

func TestIdleRevisionIsForgottenAndAskedForAgain(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c, func(o *Options) { o.IdleAfter = 20 * time.Millisecond })
	pod := app(t, "p1", echo)
	for range 3 {
		c.set(revisionOf(pod))
		if status, text, _ := do(t, client(t, false), newRequest(t, a, "GET", "/", nil)); status != 200 {
			t.Errorf("got %d %s", status, text)
		}
		c.set(revisionOf())
		c.await(t, "the end of the subscription", func() bool { return !c.asked[testCluster] })
	}
}

func TestDrain(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	get := func() (done chan int) {
		done = make(chan int, 1)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.DrainAddr().String()+"/drain/default/hello-00001", nil)
			status, _, _ := do(t, client(t, false), req)
			done <- status
		}()
		return done
	}
	done := get()
	c.await(t, "the question", func() bool { return c.asked["drain/default/hello-00001"] })
	select {
	case <-done:
		t.Error("answered before the leader did")
	default:
	}
	c.change(func() { c.drained["default/hello-00001"] = true })
	if status := <-done; status != 200 {
		t.Errorf("got %d", status)
	}
	c.server.Stop()
	begin := time.Now()
	if status := <-get(); status != 200 {
		t.Errorf("without a leader got %d", status)
	}
	if d := time.Since(begin); d < a.options.DrainWait {
		t.Errorf("without a leader answered after %v, before the fixed wait of %v", d, a.options.DrainWait)
	}
}

func TestHealth(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	get := func(path string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.HealthAddr().String()+path, nil)
		status, text, _ := do(t, client(t, false), req)
		return status, text
	}
	eventually(t, "ready", func() bool { status, _ := get("/readyz"); return status == 200 })
	if status, _ := get("/healthz"); status != 200 {
		t.Errorf("healthz is %d", status)
	}
	if _, text := get("/metrics"); !strings.Contains(text, "ebb_activator_control_connected 1") {
		t.Errorf("metrics: %.2000s", text)
	}
}

// Requests in progress, held ones too, end before Run returns; new ones are refused.
func TestShutdown(t *testing.T) {
	c := startControlPlane(t)
	c.set(revisionOf())
	a, err := New(Options{Name: "act-1", Listen: "127.0.0.1:0", ControlAddress: c.address, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	answer := make(chan int, 1)
	go func() {
		status, _, _ := do(t, client(t, false), newRequest(t, a, "GET", "/", nil))
		answer <- status
	}()
	c.await(t, "a held request", func() bool { return len(c.reported(testCluster)) > 0 })
	stop()
	eventually(t, "closed", func() bool {
		conn, err := net.Dial("tcp", a.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	c.set(revisionOf(app(t, "p1", echo)))
	if status := <-answer; status != 200 {
		t.Errorf("the held request got %d", status)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
