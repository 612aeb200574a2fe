package dispatcher

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/engine/memory"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/test/metricsdoc"
)

// outside is a dispatcher on real connections, and what publishes to its one subscription.
func outside(t *testing.T, o Options, target plan.Target) (publish func(*event.Event), backlog func() engine.Backlog) {
	t.Helper()
	ctx, store := t.Context(), &memory.Store{}
	e := store.Open()
	o.Engine = store.Open()
	d := New(o)
	t.Cleanup(func() { kill(d) })
	for _, err := range []error{
		e.PutTopic(ctx, engine.Topic{Name: topic}),
		e.PutTopic(ctx, engine.Topic{Name: plan.DeadLetters(topic)}),
		e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: "t1"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d.Set(plan.Subscription{Topic: topic, Name: "t1", Subscriber: target, PartitionKey: "partitionkey", Parallelism: 10, Delivery: plan.Delivery{Timeout: time.Minute}})
	return func(ev *event.Event) {
			if _, err := e.Publish(ctx, topic, ev); err != nil {
				t.Fatal(err)
			}
		}, func() engine.Backlog {
			b, err := e.Backlog(ctx, topic, "t1")
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
}

func TestTLSWithTheTargetsAuthorities(t *testing.T) {
	got := make(chan string, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Proto + " " + r.Header.Get("Ce-Id") + " " + r.Header.Get("Authorization")
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	token := func(_ context.Context, _ plan.Reference, audience string) (string, error) {
		return "for-" + audience, nil
	}
	publish, _ := outside(t, Options{Token: token}, plan.Target{URL: server.URL, CACerts: authority, Audience: "orders"})
	publish(numbered(1))
	if g := <-got; g != "HTTP/2.0 1 Bearer for-orders" {
		t.Errorf("got %q", g)
	}
	// Without them it is not trusted, and the event is a dead letter.
	publish, backlog := outside(t, Options{}, plan.Target{URL: server.URL})
	publish(numbered(2))
	for backlog() != (engine.Backlog{}) {
		time.Sleep(time.Millisecond) // between two looks
	}
	select {
	case g := <-got:
		t.Errorf("a server that nobody vouches for got %q", g)
	default:
	}
}

func TestHostsOfTheClusterAreDialledAtTheGateway(t *testing.T) {
	var mu sync.Mutex
	hosts := map[string]string{}
	server := func(name string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			hosts[r.Host+r.URL.Path] = name
		}))
	}
	gateway, ingress, other := server("gateway"), server("ingress"), server("other")
	for _, s := range []*httptest.Server{gateway, ingress, other} {
		defer s.Close()
	}
	address := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	o := Options{ClusterLocal: address(gateway), Hosts: map[string]string{"broker-ingress.ebb-system.svc.cluster.local": address(ingress)}}
	for url, want := range map[string]string{
		"http://hello.default.svc.cluster.local":                          "gateway",
		"http://hello.default.svc.cluster.local:8080/path":                "gateway",
		"http://broker-ingress.ebb-system.svc.cluster.local/default/main": "ingress",
		other.URL: "other",
	} {
		publish, backlog := outside(t, o, plan.Target{URL: url})
		publish(numbered(1))
		for backlog() != (engine.Backlog{}) {
			time.Sleep(time.Millisecond) // between two looks
		}
		host := strings.TrimPrefix(url, "http://")
		if !strings.Contains(host, "/") {
			host += "/"
		}
		mu.Lock()
		if got := hosts[host]; got != want {
			t.Errorf("%s went to %q, want %q (%v)", url, got, want, hosts)
		}
		mu.Unlock()
	}
}

func TestASpanForEachAttempt(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{answer: func(n int, _ *event.Event) int { return []int{500, 200}[n] }}
		w.serve("a", s.serve)
		spans := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		w.dispatcher(func(o *Options) { o.Tracer = provider.Tracer("test") }).Set(w.trigger("t1", "a"))
		e := numbered(1)
		e.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		w.publish(e)
		w.sleep(time.Minute)
		ended := spans.Ended()
		if len(ended) != 2 {
			t.Fatalf("%d spans, want 2", len(ended))
		}
		for i, span := range ended {
			c := span.SpanContext()
			if got := c.TraceID().String(); got != "0af7651916cd43dd8448eb211c80319c" || span.Parent().SpanID().String() != "b7ad6b7169203331" {
				t.Errorf("span %d is of trace %s, parent %s", i, got, span.Parent().SpanID())
			}
			if got, want := s.header[i].Get("Traceparent"), "00-"+c.TraceID().String()+"-"+c.SpanID().String()+"-01"; got != want {
				t.Errorf("attempt %d was sent with %q, want %q", i, got, want)
			}
			if got, _ := s.events[i].Get("traceparent"); got != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" {
				t.Errorf("the event says %q", got)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{answer: func(_ int, e *event.Event) int {
			if e.ID == "2" {
				return 400
			}
			return 200
		}}
		w.serve("a", s.serve)
		d := w.dispatcher()
		registry := prometheus.NewPedanticRegistry()
		w.must(registry.Register(d))
		for i := range 3 {
			d.Set(w.trigger(fmt.Sprint("t", i), "a", func(s *plan.Subscription) {
				s.Filter = []plan.Filter{{Not: &plan.Filter{Exact: []plan.Match{{Attribute: "id", Value: "3"}}}}}
			}))
		}
		w.publish(numbered(1), numbered(2), numbered(3))
		synctest.Wait()
		want := map[string]float64{
			`events_total{Trigger,t1,default,accepted}`: 1, `events_total{Trigger,t1,default,dead}`: 1, `events_total{Trigger,t1,default,filtered}`: 1,
			`subscriptions{}`: 3, `held_bytes{}`: 0, `in_flight{Trigger,t1,default}`: 0, `attempt_seconds{2xx}`: 3, `attempt_seconds{4xx}`: 3,
		}
		got := gather(w, registry)
		for name, value := range want {
			if g, there := got[name]; !there || g != value {
				t.Errorf("%s = %v, want %v\n%v", name, g, value, got)
			}
		}
		families, err := registry.Gather()
		w.must(err)
		metricsdoc.Compare(t, "Dispatcher of events", "ebb_", families)
		d.Remove("t1")
		synctest.Wait()
		for name := range gather(w, registry) {
			if strings.Contains(name, "t1") {
				t.Errorf("%s is still there", name)
			}
		}
	})
}

func gather(w *world, registry *prometheus.Registry) map[string]float64 {
	families, err := registry.Gather()
	w.must(err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if f.GetType() == dto.MetricType_HISTOGRAM {
				value = float64(m.GetHistogram().GetSampleCount())
			}
			got[strings.TrimPrefix(f.GetName(), "ebb_dispatcher_")+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return got
}

type reporter struct {
	mu  sync.Mutex
	got []Backlog
	at  []time.Time
}

func (r *reporter) Report(changed []Backlog) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, changed...)
	r.at = append(r.at, time.Now())
}

func (r *reporter) all() ([]Backlog, []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got), slices.Clone(r.at)
}

// counting counts how often the engine is asked for a backlog.
type counting struct {
	engine.Engine
	asked atomic.Int64
}

func (c *counting) Backlog(ctx context.Context, topic, name string) (engine.Backlog, error) {
	c.asked.Add(1)
	return c.Engine.Backlog(ctx, topic, name)
}

func TestTheBacklogIsReportedWhileThereIsOne(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{takes: 100 * time.Millisecond}
		w.serve("a", s.serve)
		r, asks := &reporter{}, &counting{Engine: w.store.Open()}
		d := w.dispatcher(func(o *Options) { o.Reporter, o.Engine = r, asks })
		d.Set(w.trigger("idle", "a", func(s *plan.Subscription) { s.Filter = []plan.Filter{{CESQL: "FALSE"}} }))
		d.Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.Parallelism = 2 }))
		w.sleep(time.Hour)
		if n := asks.asked.Load(); n != 0 {
			t.Errorf("the engine was asked %d times while nothing came", n)
		}
		begin := time.Now()
		for i := range 100 {
			w.publish(numbered(i))
		}
		synctest.Wait()
		got, at := r.all()
		if len(got) != 1 || got[0].Subscription != "t1" || got[0].Waiting+got[0].InFlight < 1 || got[0].URL != "http://a" || got[0].Parallelism != 2 || !at[0].Equal(begin) {
			t.Fatalf("at once: %+v", got)
		}
		w.sleep(time.Hour)
		got, at = r.all()
		last := got[len(got)-1]
		if last.Waiting+last.InFlight != 0 {
			t.Errorf("the last report is %+v", last)
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < 500*time.Millisecond {
				t.Errorf("two reports within %v", gap)
			}
		}
		if n := got[1].Waiting + got[1].InFlight; n < 80 || n > 100 {
			t.Errorf("the second report is of %d, when at most 20 were delivered", n)
		}
		if !slices.IsSortedFunc(got[1:], func(a, b Backlog) int { return int(b.Waiting+b.InFlight) - int(a.Waiting+a.InFlight) }) {
			t.Errorf("the backlog does not fall: %+v", got)
		}
		asked := asks.asked.Load()
		w.sleep(time.Hour)
		if n := asks.asked.Load(); n != asked {
			t.Errorf("the engine was asked %d times while nothing came", n-asked)
		}
	})
}

// TestWhatWaitsForItsNextAttemptRests: the backlog says how many events are put off, of an ordered lane too, and no more when they are due.
func TestWhatWaitsForItsNextAttemptRests(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		inBubble(t, func(w *world) {
			s, tried := &sink{}, sync.Map{}
			s.answer = func(_ int, e *event.Event) int {
				if _, again := tried.LoadOrStore(e.ID, true); again {
					return 200
				}
				return 500
			}
			w.serve("a", s.serve)
			r := &reporter{}
			d := w.dispatcher(func(o *Options) { o.Reporter = r })
			d.Set(w.trigger("t1", "a", func(s *plan.Subscription) {
				s.Ordered, s.PartitionKey = ordered, "partitionkey"
				s.Delivery.Retry, s.Delivery.Backoff, s.Delivery.Delay = 3, plan.Linear, 10*time.Minute
			}))
			for i := range 5 {
				e := numbered(i)
				e.SetExtension("partitionkey", fmt.Sprint(i))
				w.publish(e)
			}
			w.sleep(time.Minute)
			got, _ := r.all()
			if last := got[len(got)-1]; last.Waiting != 0 || last.InFlight != 5 || last.Resting != 5 {
				t.Errorf("ordered %v: %+v is told, want 5 events that rest", ordered, last)
			}
			w.sleep(time.Hour)
			got, _ = r.all()
			if last := got[len(got)-1]; last.Waiting+last.InFlight+last.Resting != 0 {
				t.Errorf("ordered %v: %+v is told at last", ordered, last)
			}
		})
	}
}

// TestTheBacklogOfAnOrderedOneIsOfItsPartitions: what can be in flight at once is one event of each partition.
func TestTheBacklogOfAnOrderedOneIsOfItsPartitions(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{takes: 10 * time.Second}
		w.serve("a", s.serve)
		r := &reporter{}
		d := w.dispatcher(func(o *Options) { o.Reporter = r })
		d.Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.Ordered, s.PartitionKey = true, "partitionkey" }))
		for i := range 30 {
			e := numbered(i)
			e.SetExtension("partitionkey", fmt.Sprint(i%3))
			w.publish(e)
		}
		w.sleep(2 * time.Second)
		got, _ := r.all()
		if last := got[len(got)-1]; last.Parallelism != 3 || last.Waiting+last.InFlight != 30 {
			t.Errorf("%+v is told, want 30 events of which 3 can be in flight", last)
		}
	})
}

// TestIdleSubscriptionsAreCheap counts what so many that get nothing cost, and how often they do anything.
func TestIdleSubscriptionsAreCheap(t *testing.T) {
	inBubble(t, func(w *world) {
		const n = 2000
		d := w.dispatcher()
		var plans []plan.Subscription
		for i := range n {
			plans = append(plans, w.trigger(fmt.Sprint("t", i), "a"))
		}
		memory := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc + m.StackInuse
		}
		goroutines, bytes := runtime.NumGoroutine(), memory()
		for _, s := range plans {
			d.Set(s)
		}
		synctest.Wait()
		g, b := float64(runtime.NumGoroutine()-goroutines)/n, float64(memory()-bytes)/n
		t.Logf("each: %.2f goroutines, %.0f bytes", g, b)
		if g > 1.01 {
			t.Errorf("%.2f goroutines each, want 1", g)
		}
		if b > 16<<10 {
			t.Errorf("%.0f bytes each, want at most 16 KiB", b)
		}
		registry := prometheus.NewPedanticRegistry()
		w.must(registry.Register(d))
		if got := gather(w, registry); got["subscriptions_without_series{}"] != n-seriesOf || len(got) > 3*seriesOf+20 {
			t.Errorf("%d series, %v subscriptions without", len(got), got["subscriptions_without_series{}"])
		}
		if len(d.clients.by) != 1 {
			t.Errorf("%d HTTP clients", len(d.clients.by))
		}
	})
}
