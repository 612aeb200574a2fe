package autoscaler_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/autoscaler/window"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/envoytest"
)

// stage is the product from the client's connection to the write of /scale, with a real Envoy, discovery server, load intake and Scaler. Only
// Kubernetes is missing: services make their pods themselves, as a ReplicaSet and a node do, and a pod that is deleted is cut off at once.
type stage struct {
	t         *testing.T
	discovery *xds.Server
	loads     *intake.Server
	scaler    *autoscaler.Scaler
	client    *http.Client

	mu       sync.Mutex
	services map[string]*service

	downs, deleted, requests, sockets atomic.Int64
	failures                          chan string
}

// service is one revision, its host NAME.test.
type service struct {
	*stage
	name, cluster string
	settings      autoscaler.Settings

	telling  sync.Mutex
	mu       sync.Mutex
	replicas int
	made     int
	pods     []*pod
	draining []string
	changed  chan struct{} // closed when the pods change
}

// pod is a server that can be killed.
type pod struct {
	autoscaler.Pod
	server *http.Server

	now, total atomic.Int64
	mu         sync.Mutex
	conns      []net.Conn
	killed     bool
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, services: map[string]*service{}, failures: make(chan string, 100)}
	s.discovery = xds.New(xds.Options{})
	s.loads = intake.New(intake.Options{})
	s.scaler = autoscaler.New(autoscaler.Options{Load: s.loads, Drainer: s, Writer: s})
	s.loads.SetSink(s.scaler)
	server := grpc.NewServer(xds.GRPCOptions()...)
	s.discovery.Register(server)
	s.loads.Register(server)
	control := listen(t)
	go func() { _ = server.Serve(control) }()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.scaler.Start(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; s.discovery.Close(); server.Stop() })

	listener, err := envoy.Listener(ir.Listener{Name: "external", Address: netip.MustParseAddrPort("127.0.0.1:0"), Audience: ir.External})
	s.update(s.resource("external", listener, err))
	s.discovery.Open()
	bootstrap, err := envoy.Bootstrap(envoy.BootstrapConfig{NodeID: "gateway-0", Controller: control.Addr().String(), Admin: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	e := envoytest.Start(t, bootstrap, "--concurrency", "2")
	e.AwaitReady(t)
	to := e.Listener(t, "external").String()
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport}
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *stage) resource(name string, m proto.Message, err error, options ...xds.ResourceOption) *xds.Resource {
	s.t.Helper()
	if err == nil {
		var r *xds.Resource
		if r, err = xds.NewResource(name, m, options...); err == nil {
			return r
		}
	}
	s.t.Fatal(err)
	return nil
}

func (s *stage) update(r ...*xds.Resource) { s.discovery.Update(r, nil) }

func (s *stage) fail(format string, args ...any) {
	select {
	case s.failures <- fmt.Sprintf(format, args...):
	default:
	}
}

// service makes one with so many pods, which stay that many until [service.want].
func (s *stage) service(name string, pods int) *service {
	v := &service{stage: s, name: name, cluster: ir.RevisionCluster("default", name, "u"), changed: make(chan struct{})}
	v.settings = autoscaler.Settings{
		Settings: decision.Settings{Target: 100, Utilization: 0.7, TargetBurstCapacity: 211, InitialScale: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2,
			PanicThreshold: 2, StableWindow: 6 * time.Second, ScaleToZero: true, Metric: "concurrency", MinScale: pods, MaxScale: pods},
		Window: window.Shape{Stable: 6 * time.Second, Panic: time.Second},
	}
	s.mu.Lock()
	s.services[name] = v
	s.mu.Unlock()
	r := ir.Route{Name: "route/default/" + name + "/u", Hosts: []ir.VirtualHost{{Name: "main",
		Domains: []ir.Domain{{Host: name + ".test", Audience: ir.External}},
		Rules:   []ir.Rule{{Backends: []ir.Backend{{Cluster: v.cluster, Weight: 100}}}}}}}
	v.mu.Lock()
	v.scaleTo(pods)
	v.mu.Unlock()
	cluster, err := envoy.Cluster(ir.Cluster{Name: v.cluster, Protocol: ir.HTTP1})
	c := s.resource(v.cluster, cluster, err, xds.AsLazy(), xds.WithNeeds(xds.Key{Type: xds.EndpointType, Name: v.cluster}))
	route, err := envoy.RouteConfiguration(r)
	resources := []*xds.Resource{c, s.resource(r.Name, route, err, xds.AsLazy(), xds.WithNeeds(c.Key))}
	scopes, err := envoy.Scopes(r)
	if err != nil {
		s.t.Fatal(err)
	}
	var known []xds.Key
	for _, scope := range scopes {
		known = append(known, xds.Key{Type: xds.ScopeType, Name: scope.Name})
		resources = append(resources, s.resource(scope.Name, scope, nil, xds.WithNeeds(xds.Key{Type: xds.RouteType, Name: r.Name})))
	}
	s.update(resources...)
	s.loads.Track(v.cluster, true)
	v.tell()
	// Before that the host is a 404, and for a moment longer: a gateway acknowledges before its workers know.
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.discovery.AwaitAcked(ctx, known...); err != nil {
		s.t.Fatal(err)
	}
	for known := 0; known < 20; { // each on a connection of its own, which any worker may take
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+".test/1ms", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		request.Close = true
		resp, err := s.client.Do(request)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = resp.Body.Close()
		if known++; resp.StatusCode == http.StatusNotFound {
			known = 0
		}
	}
	s.t.Cleanup(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, p := range v.pods {
			p.kill()
		}
	})
	return v
}

// tell hands the Scaler what a cache would have.
func (v *service) tell() {
	v.telling.Lock() // one after the other, so that the last is the newest
	defer v.telling.Unlock()
	v.mu.Lock()
	r := autoscaler.Revision{Namespace: "default", Name: v.name, UID: "u", Settings: v.settings, Timeout: 5 * time.Minute, Reachable: true, Initialized: true, Replicas: v.replicas}
	for _, p := range v.pods {
		r.Pods = append(r.Pods, p.Pod)
	}
	v.mu.Unlock()
	v.scaler.Set(r)
}

// want sets the number of pods, by the annotations that a user would take.
func (v *service) want(pods int) {
	v.mu.Lock()
	v.settings.MinScale, v.settings.MaxScale = pods, pods
	v.mu.Unlock()
	v.tell()
}

// await returns the pods when there are so many.
func (v *service) await(pods int) []*pod {
	end := time.NewTimer(3 * time.Minute)
	defer end.Stop()
	for {
		v.mu.Lock()
		now, changed := slices.Clone(v.pods), v.changed
		v.mu.Unlock()
		if len(now) == pods {
			return now
		}
		select {
		case <-changed:
		case <-end.C:
			v.fail("%s: %d pods for three minutes, want %d: %q", v.name, len(now), pods, v.scaler.Explain("default", v.name))
			return nil
		}
	}
}

// publish puts the endpoints into the discovery server; v is locked.
func (v *service) publish() {
	e := ir.Endpoints{Cluster: v.cluster}
	for _, p := range v.pods {
		health := ir.Healthy
		if slices.Contains(v.draining, p.Name) {
			health = ir.Draining
		}
		e.Priorities[0] = append(e.Priorities[0], ir.Endpoint{Name: p.Name, Address: p.Addr, Health: health})
	}
	slices.SortFunc(e.Priorities[0], func(a, b ir.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	// Nobody listens there: with a pod that serves, nothing may come.
	e.Priorities[1] = []ir.Endpoint{{Name: "activator", Address: netip.MustParseAddrPort("127.0.0.1:1")}}
	cla, err := envoy.ClusterLoadAssignment(e)
	v.update(v.resource(v.cluster, cla, err, xds.AsLazy()))
}

// scaleTo makes and deletes pods as a ReplicaSet does; v is locked.
func (v *service) scaleTo(n int) {
	v.replicas = n
	for len(v.pods) < n {
		v.made++
		v.pods = append(v.pods, v.newPod(fmt.Sprintf("%s-%d", v.name, v.made)))
	}
	for len(v.pods) > n {
		i := 0
		for j, p := range v.pods {
			if p.Cost < v.pods[i].Cost || p.Cost == v.pods[i].Cost && p.Created.After(v.pods[i].Created) {
				i = j
			}
		}
		p := v.pods[i]
		if !slices.Contains(v.draining, p.Name) {
			v.fail("pod %s is deleted while it gets new requests", p.Name)
		}
		if n := p.kill(); n > 0 {
			v.fail("pod %s is deleted with %d requests in flight", p.Name, n)
		}
		v.deleted.Add(1)
		v.pods = slices.Delete(v.pods, i, i+1)
	}
	v.publish()
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *service) newPod(name string) *pod {
	l := listen(v.t)
	p := &pod{Pod: autoscaler.Pod{Name: name, Addr: l.Addr().(*net.TCPAddr).AddrPort(), Ready: true, Running: true, Created: time.Now()}}
	p.server = &http.Server{Handler: p, ConnState: func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.conns = append(p.conns, c); p.killed {
				_ = c.Close()
			}
		}
	}}
	go func() { _ = p.server.Serve(l) }()
	return p
}

// kill cuts all connections off and says how many requests were in progress.
func (p *pod) kill() int64 {
	n := p.now.Load()
	_ = p.server.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	for _, c := range p.conns {
		_ = c.Close()
	}
	return n
}

// ServeHTTP answers after the time that the path names, or is a websocket that sends everything back.
func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.total.Add(1)
	p.now.Add(1)
	defer p.now.Add(-1)
	if r.URL.Path == "/ws" {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}
	d, err := time.ParseDuration(r.URL.Path[1:])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

// The Scaler's Writer and Drainer.

func (s *stage) of(name string) *service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services[name]
}

func (s *stage) Scale(_ context.Context, _, name string, n int) error {
	v := s.of(name)
	v.mu.Lock()
	if n < v.replicas {
		s.downs.Add(1)
	}
	v.scaleTo(n)
	v.mu.Unlock()
	go v.tell() // a watch is not the write's answer
	return nil
}

func (s *stage) DeletionCost(_ context.Context, _, name string, cost int) error {
	v := s.of(name[:strings.LastIndex(name, "-")])
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.pods {
		if p.Name == name {
			p.Cost = cost
		}
	}
	return nil
}

func (s *stage) Drain(_, name string, pods []string) {
	v := s.of(name)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.draining = slices.Clone(pods)
	v.publish()
}

func (s *stage) AwaitDrained(ctx context.Context, _, name string) error {
	return s.discovery.AwaitAcked(ctx, xds.Key{Type: xds.EndpointType, Name: s.of(name).cluster})
}

// Clients. A POST is not tried again once it is on its way, so that each one cut shows.

func (v *service) post(d time.Duration) {
	v.requests.Add(1)
	resp, err := v.client.Post(fmt.Sprintf("http://%s.test/%s", v.name, d), "text/plain", strings.NewReader("x"))
	if err != nil {
		v.fail("%s: a request of %v: %v", v.name, d, err)
		return
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		v.fail("%s: a request of %v: %s %.200s %v", v.name, d, resp.Status, text, err)
	}
}

// talk has a websocket for so long.
func (v *service) talk(d time.Duration) {
	v.sockets.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), d+time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+v.name+".test/ws", &websocket.DialOptions{HTTPClient: v.client})
	if err != nil {
		v.fail("%s: websocket: %v", v.name, err)
		return
	}
	defer func() { _ = conn.CloseNow() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		err := conn.Write(ctx, websocket.MessageText, []byte("still there?"))
		if err == nil {
			_, _, err = conn.Read(ctx)
		}
		if err != nil {
			v.fail("%s: websocket of %v: %v", v.name, d, err)
			return
		}
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

// TestScaleDownsCutNothing takes pods away under requests of 1 to 40 ms, websockets and long requests: a hundred times, and with
// $EBB_SCALE_DOWNS set a thousand times and under requests of a minute. Pods that are deleted are cut off at once, and nothing may be in them.
func TestScaleDownsCutNothing(t *testing.T) {
	const services = 20
	downs, long := int64(100), 15*time.Second
	if os.Getenv("EBB_SCALE_DOWNS") != "" {
		downs, long = 1000, time.Minute
	}
	s := newStage(t)
	stop := make(chan struct{})
	var clients, drivers sync.WaitGroup
	forever := func(f func()) {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	short := func(from, to time.Duration) time.Duration { return from + rand.N(to-from) }
	for i := range services {
		v := s.service(fmt.Sprintf("s%d", i), 4)
		for range 3 {
			forever(func() { v.post(short(time.Millisecond, 40*time.Millisecond)) })
		}
		if i%2 == 0 {
			forever(func() { v.talk(short(50*time.Millisecond, time.Second)) })
		}
		if i < 2 { // each in its own pod, as chance has it: these stay until the time is over
			for range 3 {
				clients.Go(func() { v.post(long) })
				clients.Go(func() { v.talk(long) })
			}
		}
		drivers.Go(func() {
			for s.downs.Load() < downs && len(s.failures) == 0 {
				pods := v.await(4)
				// All have some.
				for _, p := range pods {
					for was := p.total.Load(); p.total.Load() == was && len(s.failures) == 0; {
						v.post(time.Millisecond)
					}
				}
				v.want(1)
				v.await(1)
				v.want(4)
			}
		})
	}
	drivers.Wait()
	close(stop)
	clients.Wait()
	t.Logf("%d scale-downs, %d pods deleted, under %d requests and %d websockets", s.downs.Load(), s.deleted.Load(), s.requests.Load(), s.sockets.Load())
	close(s.failures)
	for f := range s.failures {
		t.Error(f)
	}
}
