package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/cmd/ebb/supervise"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/envoytest"
)

// controlPlane serves one Route, app.test, to any number of gateways.
func controlPlane(t *testing.T, pod netip.AddrPort) string {
	t.Helper()
	server := xds.New(xds.Options{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(server.Close)
	g := grpc.NewServer()
	server.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	var resources []*xds.Resource
	add := func(name string, m proto.Message, err error, options ...xds.ResourceOption) xds.Key {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r, err := xds.NewResource(name, m, options...)
		if err != nil {
			t.Fatal(err)
		}
		resources = append(resources, r)
		return r.Key
	}
	name := ir.RevisionCluster("default", "app", "u")
	route := ir.Route{Name: "route/default/app/u", Hosts: []ir.VirtualHost{{
		Name: "main", Domains: []ir.Domain{{Host: "app.test", Audience: ir.External}},
		Rules: []ir.Rule{{Backends: []ir.Backend{{Cluster: name, Weight: 100}}}},
	}}}
	listener, err := envoy.Listener(ir.Listener{Name: "external", Address: netip.MustParseAddrPort("127.0.0.1:0"), Audience: ir.External})
	add("external", listener, err)
	e := ir.Endpoints{Cluster: name}
	e.Priorities[0] = []ir.Endpoint{{Name: "pod", Address: pod}}
	assignment, err := envoy.ClusterLoadAssignment(e)
	endpoints := add(name, assignment, err, xds.AsLazy())
	cluster, err := envoy.Cluster(ir.Cluster{Name: name, Protocol: ir.HTTP1})
	key := add(name, cluster, err, xds.AsLazy(), xds.WithNeeds(endpoints))
	config, err := envoy.RouteConfiguration(route)
	add(route.Name, config, err, xds.AsLazy(), xds.WithNeeds(key))
	scopes, err := envoy.Scopes(route)
	for _, s := range scopes {
		add(s.Name, s, err, xds.WithNeeds(xds.Key{Type: xds.RouteType, Name: route.Name}))
	}
	server.Update(resources, nil)
	server.Open()
	return l.Addr().String()
}

// running is a gateway under test.
type running struct {
	address string             // of its listener
	health  string             // URL of its probes
	stop    context.CancelFunc // as SIGTERM does
	ended   chan error
	again   chan struct{} // Envoy was started again
	admin   *Admin
}

// startGateway runs what `ebb gateway` runs. noticed replaces the time of notice.
func startGateway(t *testing.T, control, name string, timeout time.Duration, noticed func(context.Context)) *running {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real Envoy, which -short leaves out")
	}
	program, err := envoytest.Find()
	if errors.Is(err, envoytest.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	health, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	again := make(chan struct{}, 100)
	c := Config{
		Bootstrap: envoy.BootstrapConfig{
			NodeID: name, Controller: control, Admin: "unix:" + filepath.Join(folder, "admin"), Overload: Limits(envoy.OverloadLimits{}),
		},
		Envoy: program, Concurrency: 1, Timeout: timeout, Logger: slog.New(slog.NewTextHandler(told{"Envoy runs again", again}, nil)),
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &running{stop: cancel, again: again, ended: make(chan error, 1), admin: NewAdmin(c.Bootstrap.Admin), health: "http://" + health.Addr().String()}
	go func() {
		g.ended <- run(ctx, c, folder, health, io.Discard, func(s *supervise.Spec) {
			s.PauseFirst = time.Millisecond
			s.Drain = Drain{Admin: g.admin, Timeout: timeout, Logger: c.Logger, noticed: noticed}.Run
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-g.ended
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(folder, logName))
			t.Logf("the log of %s:\n%s", name, text)
		}
	})
	until(t, name+" is ready", g.ready)
	text, err := g.admin.ask(t.Context(), http.MethodGet, "/listeners?format=json")
	if err != nil {
		t.Fatal(err)
	}
	var listeners struct {
		Statuses []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Port uint16 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(text, &listeners); err != nil || len(listeners.Statuses) != 1 {
		t.Fatalf("listeners %s: %v", text, err)
	}
	g.address = fmt.Sprintf("127.0.0.1:%d", listeners.Statuses[0].Local.Socket.Port)
	return g
}

// told is a log of which one line counts.
type told struct {
	line  string
	again chan struct{}
}

func (l told) Write(p []byte) (int, error) {
	if strings.Contains(string(p), l.line) {
		l.again <- struct{}{}
	}
	return len(p), nil
}

func (g *running) ready() error {
	response, err := http.Get(g.health + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

func until(t *testing.T, what string, ask func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("wait until %s: %v", what, err)
		}
	}
}

// app answers, /held only when it is released.
func app(t *testing.T) (address netip.AddrPort, held chan struct{}, release chan struct{}) {
	held, release = make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/held" {
			held <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "good")
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return netip.MustParseAddrPort(server.Listener.Addr().String()), held, release
}

// client reaches one gateway, over kept connections.
func (g *running) client(t *testing.T, http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, g.address)
		},
		MaxIdleConnsPerHost: 100,
		Protocols:           new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func call(c *http.Client, method, path string) (*http.Response, error) {
	request, err := http.NewRequest(method, "http://app.test"+path, strings.NewReader("hello"))
	if err != nil {
		return nil, err
	}
	response, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || string(text) != "good") {
		err = fmt.Errorf("status %s %q", response.Status, text)
	}
	return response, err
}

// TestDrainUnderLoad: of two gateways under load one is told to end. The load balancer takes notice by
// its probe; the requests that it has are answered, however long they take; it ends then; and none fails.
func TestDrainUnderLoad(t *testing.T) {
	pod, held, release := app(t)
	control := controlPlane(t, pod)
	noticed := make(chan struct{})
	one := startGateway(t, control, "one", time.Minute, func(ctx context.Context) {
		select {
		case <-noticed:
		case <-ctx.Done():
		}
	})
	two := startGateway(t, control, "two", time.Minute, func(context.Context) {})

	// The load balancer: every worker goes to one gateway, and to the other one once that is not ready.
	var choice sync.RWMutex
	usable := one
	clients := map[*running]map[bool]*http.Client{}
	for _, g := range []*running{one, two} {
		clients[g] = map[bool]*http.Client{false: g.client(t, false), true: g.client(t, true)}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var workers sync.WaitGroup
	var good, asked atomic.Int64 // asked: answers that told their client to leave
	for worker := range 8 {
		workers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				choice.RLock()
				method := []string{http.MethodGet, http.MethodPost}[i%2]
				response, err := call(clients[usable][worker%2 == 1], method, "/")
				choice.RUnlock()
				if err != nil {
					t.Errorf("worker %d, %s: %v", worker, method, err)
					return
				}
				if response.Close {
					asked.Add(1)
				}
				good.Add(1)
			}
		})
	}
	// Long requests.
	const long = 10
	answers := make(chan error, long)
	for i := range long {
		go func() {
			_, err := call(clients[one][i%2 == 1], http.MethodPost, "/held")
			answers <- err
		}()
	}
	for range long {
		<-held
	}
	one.stop()
	until(t, "the first gateway says that it is not ready", func() error {
		if one.ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	// It still serves, and asks its clients to leave.
	until(t, "answers ask clients to leave", func() error {
		if asked.Load() == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	choice.Lock() // with none on its way
	usable = two
	choice.Unlock()
	close(noticed)
	before := good.Load()
	until(t, "the first gateway takes no connection", func() error {
		if c, err := net.Dial("tcp", one.address); err == nil {
			_ = c.Close()
			return errors.New("it takes one")
		}
		return nil
	})
	until(t, "load by the other one", func() error {
		if n := good.Load(); n < before+100 {
			return fmt.Errorf("%d requests since", n-before)
		}
		return nil
	})
	select {
	case err := <-one.ended:
		t.Fatalf("it ended (%v) with %d requests in flight", err, long)
	case err := <-answers:
		t.Fatalf("a long request ended: %v", err)
	default:
	}
	close(release)
	for range long {
		if err := <-answers; err != nil {
			t.Errorf("a long request: %v", err)
		}
	}
	if err := <-one.ended; err != nil {
		t.Errorf("the first gateway ended with %v", err)
	}
	one.ended <- nil // for the cleanup
	cancel()
	workers.Wait()
	t.Logf("%d requests, %d of them asked to leave", good.Load(), asked.Load())
}

// TestDrainIsBounded: a request that never ends does not keep a gateway.
func TestDrainIsBounded(t *testing.T) {
	pod, held, _ := app(t)
	g := startGateway(t, controlPlane(t, pod), "one", 100*time.Millisecond, func(context.Context) {})
	failed := make(chan error, 1)
	go func() {
		_, err := call(g.client(t, false), http.MethodPost, "/held")
		failed <- err
	}()
	<-held
	g.stop()
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
	g.ended <- nil
	if err := <-failed; err == nil {
		t.Error("a request without end has an answer")
	}
}

// TestEnvoyIsStartedAgain: a gateway whose Envoy is killed serves again.
func TestEnvoyIsStartedAgain(t *testing.T) {
	pod, _, _ := app(t)
	control := controlPlane(t, pod)
	g := startGateway(t, control, "one", time.Minute, func(context.Context) {})
	if _, err := call(g.client(t, false), http.MethodGet, "/"); err != nil {
		t.Fatal(err)
	}
	if err := g.admin.post(t.Context(), "/quitquitquit"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.again:
	case <-time.After(30 * time.Second):
		t.Fatal("it was not started again")
	}
	until(t, "it is ready again", g.ready)
}
