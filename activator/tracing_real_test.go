package activator

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/envoytest"
)

// collector takes spans by OTLP over gRPC.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address netip.AddrPort
	mu      sync.Mutex
	spans   []received
}

// received is a span and who made it.
type received struct {
	*tracepb.Span
	service string
}

func (c *collector) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		service := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.spans = append(c.spans, received{s, service})
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// of a trace, by service and name; a name that is there twice has a "2" behind it.
func (c *collector) of(trace string) map[string]received {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]received{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) != trace {
			continue
		}
		name := s.service + "/" + s.GetName()
		if s.service == "ebb-gateway" {
			name = s.service
		}
		if _, there := all[name]; there {
			name += "2"
		}
		all[name] = s
	}
	return all
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: netip.MustParseAddrPort(l.Addr().String())}
	g := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(g, c)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return c
}

// tracedWorld is a real gateway and a real activator of one revision, both of which send spans.
type tracedWorld struct {
	*collector
	gateway netip.AddrPort
	a       *Activator
	// describe is what the control plane says of the revision from now on.
	describe func(*link.Revision)
}

// set describes the revision with these pods.
func (w *tracedWorld) set(collector string, pods ...*link.Pod) {
	revision := revisionOf(pods...)
	revision.TraceCollector = collector
	w.describe(revision)
}

func startTracedWorld(t *testing.T) *tracedWorld {
	t.Helper()
	w := &tracedWorld{collector: startCollector(t)}
	discovery := xds.New(xds.Options{Logger: quiet()})
	loads := intake.New(intake.Options{Sink: &observed{}, Logger: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	discovery.Register(server)
	loads.Register(server)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { discovery.Close(); server.Stop() })
	w.a = startActivator(t, &controlPlane{address: l.Addr().String()})

	var set []*xds.Resource
	add := func(name string, m proto.Message, err error, needs ...xds.Key) xds.Key {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r, err := xds.NewResource(name, m, xds.WithNeeds(needs...))
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, r)
		return r.Key
	}
	tracing := ir.Tracing{Host: w.address.Addr().String(), Port: w.address.Port(), Rate: 1}
	spans, err := envoy.Collector(tracing)
	needs := add(envoy.CollectorCluster, spans, err)
	listener, err := envoy.Listener(ir.Listener{Name: "external", Address: netip.MustParseAddrPort("127.0.0.1:0"), Audience: ir.External, Tracing: &tracing})
	add("external", listener, err, needs)
	activator := ir.Endpoint{Name: "activator-0", Address: netip.MustParseAddrPort(w.a.Addr().String())}
	hold, err := envoy.Hold(ir.Hold{Name: activator.Name, Activators: []ir.Endpoint{activator}})
	if err != nil {
		t.Fatal(err)
	}
	e := add(hold.Endpoints.GetClusterName(), hold.Endpoints, nil)
	c := add(hold.Cluster.GetName(), hold.Cluster, nil, e)
	add(hold.Listener.GetName(), hold.Listener, nil, c)
	activator.Hold = activator.Name
	eds, err := envoy.ClusterLoadAssignment(ir.Endpoints{Cluster: testCluster, Priorities: [2][]ir.Endpoint{{}, {activator}}})
	e = add(testCluster, eds, err)
	cds, err := envoy.Cluster(ir.Cluster{Name: testCluster, Protocol: ir.Auto, Stats: ir.RevisionStats("default", "hello", "hello-00001")})
	c = add(testCluster, cds, err, e)
	route := ir.Route{Name: "route/default/hello/u", Hosts: []ir.VirtualHost{{Name: "main", Domains: []ir.Domain{{Host: "hello.test", Audience: ir.External}},
		Rules: []ir.Rule{{Backends: []ir.Backend{{Cluster: testCluster, Weight: 100}}}}}}}
	rds, err := envoy.RouteConfiguration(route)
	r := add(route.Name, rds, err, c)
	scopes, err := envoy.Scopes(route)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scopes {
		add(s.GetName(), s, nil, r)
	}
	discovery.Update(set, nil)
	w.describe = func(revision *link.Revision) {
		t.Helper()
		r, err := xds.NewResource(testCluster, revision)
		if err != nil {
			t.Fatal(err)
		}
		discovery.Update([]*xds.Resource{r}, nil)
	}
	w.set("grpc://" + w.address.String())
	discovery.Open()

	bootstrap, err := envoy.Bootstrap(envoy.BootstrapConfig{NodeID: "gateway-0", Controller: l.Addr().String(), Admin: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	gateway := envoytest.Start(t, bootstrap)
	gateway.AwaitReady(t)
	w.gateway = gateway.Listener(t, "external")
	return w
}

// call sends a request with a client's trace to the gateway.
func (w *tracedWorld) call(t *testing.T, header string) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.gateway.String()+"/path", strings.NewReader("body"))
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Host = "hello.test"
	req.Header.Set("Traceparent", header)
	res, err := client(t, false).Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// TestTraceOfAStartFromZero: the spans of gateway and activator are one tree below the client's, with every step of
// the start as a span, and the pod gets the context of the last one. A request that waits for
// nothing has no such steps; one that is not sampled, or comes when nothing is sent any more, has no spans.
func TestTraceOfAStartFromZero(t *testing.T) {
	w := startTracedWorld(t)
	got := make(chan string, 10)
	answers := func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Header.Get("Traceparent")
		rw.WriteHeader(http.StatusTeapot)
	}
	const client, trace = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"
	done := make(chan int, 1)
	go func() { done <- w.call(t, "00-"+trace+"-"+client+"-01") }()
	eventually(t, "the request to be held", func() bool { return w.a.metrics.held.Load() == 1 })
	pod := app(t, "p1", answers)
	begin := time.Now()
	at := func(ms int) *timestamppb.Timestamp {
		return timestamppb.New(begin.Add(time.Duration(ms) * time.Microsecond)) // all of it over in a moment
	}
	pod.Start = &link.StartTimes{Created: at(1), Scheduled: at(2), Pulled: at(3), Started: at(4)}
	w.set("grpc://"+w.address.String(), pod)
	if status := <-done; status != http.StatusTeapot {
		t.Fatalf("the answer is %d", status)
	}
	atPod := <-got

	names := []string{"ebb-gateway", "ebb-activator/activator", "ebb-activator/queued", "ebb-activator/scaled", "ebb-activator/scheduled",
		"ebb-activator/pulled", "ebb-activator/started", "ebb-activator/probed", "ebb-activator/forwarded"}
	var spans map[string]received
	eventually(t, "all spans", func() bool { spans = w.of(trace); return len(spans) >= len(names) })
	if len(spans) != len(names) {
		t.Errorf("there are %d spans: %v", len(spans), spans)
	}
	parents := map[string]string{
		"activator": "ebb-gateway", "queued": "ebb-activator/activator", "forwarded": "ebb-activator/activator",
		"scaled": "ebb-activator/queued", "scheduled": "ebb-activator/queued", "pulled": "ebb-activator/queued", "started": "ebb-activator/queued", "probed": "ebb-activator/queued",
	}
	for _, name := range names {
		s, ok := spans[name]
		if !ok {
			t.Fatalf("there is no span %s: %v", name, spans)
		}
		want := client
		if p, ok := parents[strings.TrimPrefix(name, "ebb-activator/")]; ok {
			want = hex.EncodeToString(spans[p].GetSpanId())
		}
		if have := hex.EncodeToString(s.GetParentSpanId()); have != want {
			t.Errorf("the parent of %s is %s, want %s", name, have, want)
		}
		if s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() {
			t.Errorf("%s ends before it starts", name)
		}
	}
	// The steps follow each other, from the arrival to the moment when the request had its pod.
	last := spans["ebb-activator/queued"].GetStartTimeUnixNano()
	for _, name := range names[3:8] {
		if s := spans[name]; s.GetStartTimeUnixNano() != last {
			t.Errorf("%s does not start where the step before ends", name)
		}
		last = spans[name].GetEndTimeUnixNano()
	}
	if last != spans["ebb-activator/queued"].GetEndTimeUnixNano() || last != spans["ebb-activator/forwarded"].GetStartTimeUnixNano() {
		t.Error("the last step does not end where the request is forwarded")
	}
	if want := fmt.Sprintf("00-%s-%x-01", trace, spans["ebb-activator/forwarded"].GetSpanId()); atPod != want {
		t.Errorf("the pod got the context %s, want %s", atPod, want)
	}

	const warm, off, over = "11111111111111111111111111111111", "22222222222222222222222222222222", "33333333333333333333333333333333"
	w.call(t, "00-"+warm+"-"+client+"-01")
	<-got
	unsampled := "00-" + off + "-" + client + "-00"
	w.call(t, unsampled)
	if have := <-got; !strings.Contains(have, off) || !strings.HasSuffix(have, "-00") {
		t.Errorf("of a trace that is not sampled the pod got %s", have)
	}
	eventually(t, "the spans of a request that waits for nothing", func() bool { return len(w.of(warm)) >= 3 })
	if spans := w.of(warm); len(spans) != 3 || spans["ebb-activator/forwarded"].Span == nil {
		t.Errorf("a request that waits for nothing has %v", spans)
	}
	w.set("", pod)
	eventually(t, "the end of tracing", func() bool { return w.a.tracer.now.Load() == nil })
	w.call(t, "00-"+over+"-"+client+"-01")
	<-got
	w.a.tracer.close()
	eventually(t, "the gateway's span", func() bool { return len(w.of(over)) >= 1 })
	if spans := w.of(over); len(spans) != 1 || len(w.of(off)) != 0 {
		t.Errorf("after the end there are %v, of what is not sampled %v", spans, w.of(off))
	}
}

// TestSpansOfRefusals: a request that gets no pod has a span that says why.
func TestSpansOfRefusals(t *testing.T) {
	w := startTracedWorld(t)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	done := make(chan int, 1)
	go func() { done <- w.call(t, "00-"+trace+"-00f067aa0ba902b7-01") }()
	eventually(t, "the request to be held", func() bool { return w.a.metrics.held.Load() == 1 })
	failed := revisionOf()
	failed.Failure, failed.TraceCollector = "no such image", "grpc://"+w.address.String()
	w.describe(failed)
	if status := <-done; status != http.StatusServiceUnavailable {
		t.Errorf("the answer is %d", status)
	}
	var s received
	eventually(t, "its span", func() bool { s = w.of(trace)["ebb-activator/activator"]; return s.Span != nil })
	if s.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR || !strings.Contains(s.GetStatus().GetMessage(), "no such image") {
		t.Errorf("its status is %v", s.GetStatus())
	}
}
