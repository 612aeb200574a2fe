package dispatcher

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/eventing/natsserver"
	"ebb.dev/ebb/eventing/plan"
)

// onJetStream opens engines on one NATS server.
func onJetStream(t testing.TB) (open func() engine.Engine) {
	t.Helper()
	server, err := natsserver.Start(t.Context(), natsserver.Options{Name: "test", Listen: "127.0.0.1:0", Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	return func() engine.Engine {
		e, err := jetstream.Open(jetstream.Options{URL: server.URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
}

// TestOnJetStream has a dispatcher killed, and one drained, while events of an ordered and an unordered subscription go
// through a real server: all of them come, those of a partition in order.
func TestOnJetStream(t *testing.T) {
	const events, partitions = 400, 7
	open := onJetStream(t)
	e, ctx := open(), t.Context()
	var mu sync.Mutex
	seen, last := map[string]map[int]int{}, map[string]int{}
	var wrong []string
	changed := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		n, name := 0, r.URL.Path[1:]
		_, _ = fmt.Sscan(r.Header.Get("Ce-Id"), &n)
		partition := name + r.Header.Get("Ce-Partitionkey")
		if seen[name] == nil {
			seen[name] = map[int]int{}
		}
		seen[name][n]++
		if name == "ordered" && seen[name][n] == 1 && n < last[partition] {
			wrong = append(wrong, fmt.Sprintf("%d after %d", n, last[partition]))
		}
		last[partition] = max(last[partition], n)
		if n%10 == 3 && seen[name][n] == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}))
	defer server.Close()
	for _, name := range []string{topic, plan.DeadLetters(topic)} {
		if err := e.PutTopic(ctx, engine.Topic{Name: name, MaxBytes: 64 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	var plans []plan.Subscription
	for _, name := range []string{"ordered", "unordered"} {
		if err := e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: name, Ordered: name == "ordered", AckWait: 2 * time.Second}); err != nil {
			t.Fatal(err)
		}
		plans = append(plans, plan.Subscription{Topic: topic, Name: name, Ordered: name == "ordered", Subscriber: plan.Target{URL: server.URL + "/" + name},
			PartitionKey: "partitionkey", Parallelism: 20, Delivery: plan.Delivery{Retry: 10, Backoff: plan.Linear, Delay: 20 * time.Millisecond, Timeout: time.Minute}})
	}
	start := func() *Dispatcher {
		d := New(Options{Engine: open(), AckWait: 2 * time.Second})
		for _, s := range plans {
			d.Set(s)
		}
		return d
	}
	come := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen["ordered"]) + len(seen["unordered"])
	}
	until := func(what string, n int) {
		t.Helper()
		for come() < n {
			select {
			case <-changed:
			case <-time.After(2 * time.Minute):
				t.Fatalf("%s: %d of %d came", what, come(), n)
			}
		}
	}
	d := start()
	for i := range events {
		ev := &event.Event{ID: fmt.Sprint(i + 1), Source: "/test", Type: "t", Data: []byte("x"), Extensions: []event.Attribute{{Name: "partitionkey", Value: fmt.Sprint(i % partitions)}}}
		if _, err := e.Publish(ctx, topic, ev); err != nil {
			t.Fatal(err)
		}
	}
	until("before the kill", events/4)
	kill(d)
	d = start()
	until("before the drain", events)
	next := start()
	drain, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d.Drain(drain)
	defer kill(next)
	until("at the end", 2*events)
	mu.Lock()
	defer mu.Unlock()
	if len(wrong) > 0 {
		t.Errorf("came first out of order: %v", wrong)
	}
}

// TestTheStoreGoesAwayAndComesBack has the NATS server stopped while events are in flight and others wait, and started again on
// its folder: every event comes, and those that were in flight are not left in flight.
func TestTheStoreGoesAwayAndComesBack(t *testing.T) {
	const events = 60
	o := natsserver.Options{Name: "test", Listen: "127.0.0.1:0", Folder: t.TempDir()}
	server, err := natsserver.Start(t.Context(), o)
	must(t, err)
	o.Listen = strings.TrimPrefix(server.URL(), "nats://")
	e, err := jetstream.Open(jetstream.Options{URL: server.URL()})
	must(t, err)
	defer e.Close()
	ctx := t.Context()
	must(t, e.PutTopic(ctx, engine.Topic{Name: topic, MaxBytes: 64 << 20}))
	must(t, e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: "t1", AckWait: 2 * time.Second}))
	var mu sync.Mutex
	seen := map[string]bool{}
	come, release := make(chan string, 10*events), make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("Ce-Id")
		come <- id
		<-release
		mu.Lock()
		seen[id] = true
		mu.Unlock()
	}))
	defer web.Close()
	d := New(Options{Engine: e, AckWait: 2 * time.Second})
	defer kill(d)
	d.Set(plan.Subscription{Topic: topic, Name: "t1", Subscriber: plan.Target{URL: web.URL}, PartitionKey: "partitionkey", Parallelism: 5,
		Delivery: plan.Delivery{Retry: 100, Backoff: plan.Linear, Delay: 10 * time.Millisecond, Timeout: time.Minute}})
	for i := range events {
		_, err := e.Publish(ctx, topic, &event.Event{ID: fmt.Sprint(i), Source: "/test", Type: "t"})
		must(t, err)
	}
	<-come // the first is in flight
	server.Shutdown()
	close(release)
	for server, err = natsserver.Start(ctx, o); err != nil; server, err = natsserver.Start(ctx, o) {
		// Somebody may have got the port meanwhile.
		t.Log(err)
		time.Sleep(100 * time.Millisecond) // between two tries
		must(t, ctx.Err())
	}
	defer server.Shutdown()
	all := func() bool {
		mu.Lock()
		defer mu.Unlock()
		b, err := e.Backlog(ctx, topic, "t1")
		return len(seen) == events && err == nil && b == (engine.Backlog{})
	}
	for deadline := time.Now().Add(2 * time.Minute); !all(); time.Sleep(10 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			b, err := e.Backlog(ctx, topic, "t1")
			mu.Lock()
			defer mu.Unlock()
			t.Fatalf("%d of %d came; backlog %+v, %v", len(seen), events, b, err)
		}
	}
}
