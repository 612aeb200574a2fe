package ingress_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/ingress"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/eventing/natsserver"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/test/metricsdoc"
)

// rig is an ingress on a real store.
type rig struct {
	*testing.T
	e      *jetstream.Engine
	i      *ingress.Ingress
	url    string
	server *natsserver.Server
}

var (
	broker  = plan.Address{Kind: plan.Broker, Namespace: "default", Name: "main"}
	channel = plan.Address{Kind: plan.Channel, Namespace: "default", Name: "main"}
)

func newRig(t *testing.T, change func(*ingress.Options)) *rig {
	t.Helper()
	s, err := natsserver.Start(t.Context(), natsserver.Options{Listen: "127.0.0.1:0", Folder: t.TempDir(), MaxStore: 1 << 50})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	e, err := jetstream.Open(jetstream.Options{URL: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	o := ingress.Options{Engine: e}
	if change != nil {
		change(&o)
	}
	r := &rig{T: t, e: e, i: ingress.New(o), server: s}
	web := httptest.NewServer(r.i)
	t.Cleanup(web.Close)
	r.url = web.URL
	for _, a := range []plan.Address{broker, channel} {
		r.set(a, func(*plan.Topic) {})
	}
	return r
}

func (r *rig) set(a plan.Address, change func(*plan.Topic)) plan.Topic {
	r.Helper()
	t := plan.Topic{Address: a, UID: "0a1b2c3d", Accepts: true, HopLimit: 255}
	t.Engine = engine.Topic{Name: plan.TopicName(a, t.UID), MaxBytes: 64 << 20, KeepAll: true}
	change(&t)
	if err := r.e.PutTopic(r.Context(), t.Engine); err != nil {
		r.Fatal(err)
	}
	r.i.Set(t)
	return t
}

// send makes a request; headers are "Name: value".
func (r *rig) send(method, path, body string, headers ...string) (*http.Response, string) {
	r.Helper()
	request, err := http.NewRequestWithContext(r.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Add(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.Fatal(err)
	}
	return answer, string(text)
}

func (r *rig) want(status int, method, path, body string, headers ...string) (http.Header, string) {
	r.Helper()
	answer, text := r.send(method, path, body, headers...)
	if answer.StatusCode != status {
		r.Errorf("%s %s: %d %s; want %d", method, path, answer.StatusCode, text, status)
	}
	return answer.Header, text
}

func binary(id string, more ...string) []string {
	return append([]string{"Ce-Specversion: 1.0", "Ce-Id: " + id, "Ce-Source: /test", "Ce-Type: t", "Content-Type: text/plain"}, more...)
}

// stored is the event with a sequence in the topic of an address.
func (r *rig) stored(a plan.Address, sequence uint64) *event.Event {
	r.Helper()
	tail, err := r.e.Tail(r.Context(), plan.TopicName(a, "0a1b2c3d"), engine.From{Sequence: sequence})
	if err != nil {
		r.Fatal(err)
	}
	defer tail.Close()
	e, _, _, err := tail.Next(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return e
}

func (r *rig) equal(got, want any) {
	r.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		r.Errorf("(-want +got)\n%s", diff)
	}
}

func TestStoresBeforeItAnswers(t *testing.T) {
	r := newRig(t, nil)
	r.want(202, "POST", "/default/main", "hello", binary("1", "Ce-Subject: Euro%20%E2%82%AC", "Ce-Tenant: a")...)
	r.want(202, "POST", "/channels/default/main", `{"specversion":"1.0","id":"2","source":"/s","type":"t","data":{"a":1}}`, "Content-Type: application/cloudevents+json; charset=utf-8")
	ttl := event.Attribute{Name: "knativebrokerttl", Value: "255"}
	r.equal(r.stored(broker, 1), &event.Event{
		ID: "1", Source: "/test", Type: "t", Subject: "Euro €", DataContentType: "text/plain", Data: []byte("hello"),
		Extensions: []event.Attribute{ttl, {Name: "tenant", Value: "a"}},
	})
	r.equal(r.stored(channel, 1), &event.Event{
		ID: "2", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(`{"a":1}`), Extensions: []event.Attribute{ttl},
	})
	// The same event once more is accepted and stored once.
	r.want(202, "POST", "/default/main", "hello", binary("1")...)
	r.want(202, "POST", "/default/main", "next", binary("3")...)
	r.equal(r.stored(broker, 2).ID, "3")
}

func TestRefusesWithAReason(t *testing.T) {
	r := newRig(t, func(o *ingress.Options) { o.MaxBodyBytes = 2 << 20 })
	for name, test := range map[string]struct {
		status  int
		reason  string
		method  string
		path    string
		body    string
		headers []string
	}{
		"no topic":           {404, "/default/other", "POST", "/default/other", "", binary("1")},
		"no path":            {404, "/NAMESPACE/BROKER", "POST", "/", "", binary("1")},
		"GET":                {405, "POST", "GET", "/default/main", "", nil},
		"PUT":                {405, "POST", "PUT", "/default/main", "", binary("1")},
		"no event":           {400, "specversion is missing", "POST", "/default/main", "x", []string{"Content-Type: text/plain"}},
		"no id":              {400, "attribute id is missing", "POST", "/default/main", "", []string{"Ce-Specversion: 1.0", "Ce-Source: /s", "Ce-Type: t"}},
		"other version":      {400, "0.3", "POST", "/default/main", "", []string{"Ce-Specversion: 0.3", "Ce-Id: 1", "Ce-Source: /s", "Ce-Type: t"}},
		"bad UTF-8":          {400, "attribute subject is not UTF-8", "POST", "/default/main", "", binary("1", "Ce-Subject: %C0%A0")},
		"bad name":           {400, "attribute bad-name has a name", "POST", "/default/main", "", binary("1", "Ce-Bad-Name: x")},
		"bad time":           {400, "attribute time is not a time", "POST", "/default/main", "", binary("1", "Ce-Time: yesterday")},
		"given twice":        {400, "attribute tenant is given twice", "POST", "/default/main", "", binary("1", "Ce-Tenant: a", "Ce-Tenant: b")},
		"not JSON":           {400, "not JSON", "POST", "/default/main", "{", []string{"Content-Type: application/cloudevents+json"}},
		"one bad in a batch": {400, "event 1 of the batch", "POST", "/default/main", `[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"2","source":"/s"}]`, []string{"Content-Type: application/cloudevents-batch+json"}},
		"other format":       {415, "application/cloudevents+json", "POST", "/default/main", "", []string{"Content-Type: application/cloudevents+avro"}},
		"large event":        {413, "larger", "POST", "/default/main", strings.Repeat("x", 1<<20), binary("1")},
		"large body":         {413, "2097152", "POST", "/default/main", strings.Repeat("x", 3<<20), binary("1")},
		"large attribute":    {413, "larger", "POST", "/default/main", "", binary("1", "Ce-Big: "+strings.Repeat("x", 40000))},
		"no hops left":       {400, "knativebrokerttl", "POST", "/default/main", "", binary("1", "Ce-Knativebrokerttl: 0")},
		"last hop":           {400, "knativebrokerttl", "POST", "/default/main", "", binary("1", "Ce-Knativebrokerttl: 1")},
		"hops are no number": {400, "knativebrokerttl", "POST", "/default/main", "", binary("1", "Ce-Knativebrokerttl: x")},
	} {
		t.Run(name, func(t *testing.T) {
			sub := &rig{T: t, e: r.e, i: r.i, url: r.url}
			header, text := sub.want(test.status, test.method, test.path, test.body, test.headers...)
			if !strings.Contains(text, test.reason) {
				t.Errorf("the reason is %q; want %q in it", text, test.reason)
			}
			if test.status == 405 && header.Get("Allow") != "POST, OPTIONS" {
				t.Errorf("Allow: %q", header.Get("Allow"))
			}
		})
	}
	// Nothing of all that was stored.
	r.want(202, "POST", "/default/main", "", binary("first")...)
	r.equal(r.stored(broker, 1).ID, "first")
}

func TestABatchIsTakenWhollyOrNotAtAll(t *testing.T) {
	r := newRig(t, func(o *ingress.Options) { o.Limits.Batch = 3 })
	batch := func(ids ...string) string {
		all := []string{}
		for _, id := range ids {
			all = append(all, fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":"t"}`, id))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	kind := "Content-Type: application/cloudevents-batch+json"
	r.want(202, "POST", "/default/main", batch(), kind)
	r.want(202, "POST", "/default/main", batch("1", "2", "3"), kind)
	r.want(413, "POST", "/default/main", batch("4", "5", "6", "7"), kind)

	// A store that is full half-way refuses the batch; sent again later, each event is there once and in order.
	topic := r.set(broker, func(t *plan.Topic) { t.Engine.MaxEvents = 5 })
	header, _ := r.want(429, "POST", "/default/main", batch("4", "5", "6"), kind)
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	topic.Engine.MaxEvents = 10
	if err := r.e.PutTopic(t.Context(), topic.Engine); err != nil {
		t.Fatal(err)
	}
	r.want(202, "POST", "/default/main", batch("4", "5", "6"), kind)
	r.want(202, "POST", "/default/main", batch("7"), kind)
	for n := range 7 {
		r.equal(r.stored(broker, uint64(n)+1).ID, fmt.Sprint(n+1))
	}
}

func TestWhatAnEventGetsOnItsWay(t *testing.T) {
	r := newRig(t, nil)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	r.want(202, "POST", "/default/main", "", binary("1", "Ce-Knativebrokerttl: 7", "Traceparent: "+parent, "Tracestate: a=b")...)
	r.want(202, "POST", "/default/main", "", binary("2", "Ce-Traceparent: "+strings.ReplaceAll(parent, "4b", "11"), "Traceparent: "+parent)...)
	r.want(202, "POST", "/default/main", "", binary("3", "Traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01")...)
	r.set(broker, func(t *plan.Topic) { t.HopLimit = 9 })
	r.want(202, "POST", "/default/main", "", binary("4", "Ce-Ebbfor: t", "Ce-Ebbid: x", "Ce-Ebbother: o")...)
	if got := r.stored(broker, 4).Extensions; len(got) != 2 || got[0] != (event.Attribute{Name: "ebbother", Value: "o"}) {
		t.Errorf("extensions that only Ebb sets came from outside: %v", got)
	}
	got := []string{}
	for n := range 4 {
		e := r.stored(broker, uint64(n)+1)
		hops, _ := e.Get("knativebrokerttl")
		trace, _ := e.Get("traceparent")
		state, _ := e.Get("tracestate")
		got = append(got, hops+" "+trace+" "+state)
	}
	r.equal(got, []string{"6 " + parent + " a=b", "255 " + strings.ReplaceAll(parent, "4b", "11") + " ", "255  ", "9  "})
}

func TestHandshake(t *testing.T) {
	r := newRig(t, nil)
	header, _ := r.want(200, "OPTIONS", "/default/main", "", "WebHook-Request-Origin: events.example.com", "WebHook-Request-Rate: 120")
	r.equal([]string{header.Get("WebHook-Allowed-Origin"), header.Get("WebHook-Allowed-Rate"), header.Get("Allow")}, []string{"events.example.com", "*", "POST, OPTIONS"})
	header, _ = r.want(200, "OPTIONS", "/default/main", "")
	r.equal([]string{header.Get("WebHook-Allowed-Origin"), header.Get("WebHook-Allowed-Rate")}, []string{"", ""})
	r.want(404, "OPTIONS", "/default/none", "", "WebHook-Request-Origin: events.example.com")
}

func TestSaysWhenToComeAgain(t *testing.T) {
	r := newRig(t, nil)
	r.set(broker, func(t *plan.Topic) { t.Accepts, t.Why = false, "broker default/main has no store yet" })
	header, text := r.want(503, "POST", "/default/main", "", binary("1")...)
	if header.Get("Retry-After") == "" || !strings.Contains(text, "has no store yet") {
		t.Errorf("%v %s", header, text)
	}
	r.i.Remove(broker)
	r.want(404, "POST", "/default/main", "", binary("1")...)

	r.server.Shutdown()
	header, _ = r.want(503, "POST", "/channels/default/main", "", binary("1")...)
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After while the store is away")
	}
}

// held is an engine whose Publish waits until it is let go.
type held struct {
	engine.Engine
	entered chan struct{}
	release chan struct{}
}

func (h *held) Publish(context.Context, string, *event.Event) (engine.Stored, error) {
	h.entered <- struct{}{}
	<-h.release
	return engine.Stored{Sequence: 1}, nil
}

func TestDrainsAndIsBounded(t *testing.T) {
	h := &held{entered: make(chan struct{}), release: make(chan struct{})}
	i := ingress.New(ingress.Options{Engine: h, MaxConcurrent: 1})
	i.Set(plan.Topic{Address: broker, Accepts: true})
	post := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		q := httptest.NewRequest(http.MethodPost, "/default/main", strings.NewReader("x"))
		for _, one := range binary("1") {
			name, value, _ := strings.Cut(one, ": ")
			q.Header.Set(name, value)
		}
		i.ServeHTTP(w, q)
		return w
	}
	first := make(chan *httptest.ResponseRecorder, 1)
	go func() { first <- post() }()
	<-h.entered
	if w := post(); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second request at once: %d %v", w.Code, w.Header())
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := i.Drain(gone); err == nil {
		t.Error("drained with a request in flight")
	}
	if w := post(); w.Code != 503 {
		t.Errorf("a request to a draining ingress: %d", w.Code)
	}
	close(h.release)
	if err := i.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if w := <-first; w.Code != 202 {
		t.Errorf("the request in flight: %d", w.Code)
	}
}

func TestMetricsAndKinds(t *testing.T) {
	var mu sync.Mutex
	seen := []string{}
	r := newRig(t, func(o *ingress.Options) {
		o.SeenSize = 2
		o.Seen = func(s ingress.Seen) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s.Address.Name+" "+s.Type)
		}
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.i.Collectors()...)
	for n, kind := range []string{"a", "a", "b", "c", "a"} {
		r.want(202, "POST", "/default/main", "", "Ce-Specversion: 1.0", fmt.Sprintf("Ce-Id: %d", n), "Ce-Source: /s", "Ce-Type: "+kind)
	}
	r.want(202, "POST", "/default/main", "", "Ce-Specversion: 1.0", "Ce-Id: 0", "Ce-Source: /s", "Ce-Type: a")
	r.want(400, "POST", "/default/main", "")
	r.want(404, "POST", "/default/none", "")
	r.equal(seen, []string{"main a", "main b", "main c", "main a"})
	const want = `
# HELP ebb_ingress_duplicates_total Events that had been stored before.
# TYPE ebb_ingress_duplicates_total counter
ebb_ingress_duplicates_total{kind="Broker",name="main",namespace="default"} 1
# HELP ebb_ingress_events_total Events stored.
# TYPE ebb_ingress_events_total counter
ebb_ingress_events_total{kind="Broker",name="main",namespace="default"} 5
# HELP ebb_ingress_requests_total Requests with events, by result.
# TYPE ebb_ingress_requests_total counter
ebb_ingress_requests_total{kind="Broker",name="main",namespace="default",result="accepted"} 6
ebb_ingress_requests_total{kind="Broker",name="main",namespace="default",result="invalid"} 1
# HELP ebb_ingress_unknown_total Requests to a broker or channel that does not exist.
# TYPE ebb_ingress_unknown_total counter
ebb_ingress_unknown_total 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "ebb_ingress_duplicates_total", "ebb_ingress_events_total", "ebb_ingress_requests_total", "ebb_ingress_unknown_total"); err != nil {
		t.Error(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	metricsdoc.Compare(t, "Ingress of events", "ebb_", families)
	r.i.Remove(broker)
	if n, err := testutil.GatherAndCount(registry, "ebb_ingress_events_total"); n != 0 || err != nil {
		t.Errorf("%d metrics of a broker that is gone, %v", n, err)
	}
}
