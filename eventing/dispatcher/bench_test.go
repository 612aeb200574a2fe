package dispatcher

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/engine/memory"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// BenchmarkDeliver is an event of 1 KB from an engine to a subscriber on a real connection, acknowledged, with the engine's and the
// subscriber's side in it: from the engine in memory, from JetStream, and with 20 other subscriptions of which none gets it
// (filtered). "take" is JetStream alone: taken and acknowledged by 100 at once. "client" is Go's HTTP client alone, as many
// requests at once, to the same subscriber.
func BenchmarkDeliver(b *testing.B) {
	for _, tc := range []struct {
		name     string
		open     func(testing.TB) engine.Engine
		ordered  bool
		filtered int
		take     bool
	}{
		{name: "memory", open: func(testing.TB) engine.Engine { return memory.New() }},
		{name: "memory,ordered", open: func(testing.TB) engine.Engine { return memory.New() }, ordered: true},
		{name: "jetstream", open: one},
		{name: "jetstream,ordered", open: one, ordered: true},
		{name: "jetstream,filtered", open: one, filtered: 20},
		{name: "jetstream,take", open: one, take: true},
	} {
		b.Run(tc.name, func(b *testing.B) {
			var wg sync.WaitGroup
			server := subscriber(wg.Done)
			defer server.Close()
			e, ctx := tc.open(b), b.Context()
			must(b, e.PutTopic(ctx, engine.Topic{Name: topic, MaxBytes: 1 << 30}))
			d := New(Options{Engine: e})
			defer kill(d)
			s := plan.Subscription{Topic: topic, Name: "t1", Subscriber: plan.Target{URL: server.URL}, PartitionKey: "partitionkey", Parallelism: 100, Ordered: tc.ordered,
				Delivery: plan.Delivery{Retry: 3, Timeout: time.Minute}}
			all := []plan.Subscription{s}
			for i := range tc.filtered {
				other := s
				other.Name, other.Filter = fmt.Sprint("other", i), []plan.Filter{{Exact: []plan.Match{{Attribute: "type", Value: "other"}}}}
				all = append(all, other)
			}
			for _, s := range all {
				must(b, e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: s.Name, Ordered: tc.ordered}))
			}
			wg.Add(b.N)
			var publish errgroup.Group
			publish.SetLimit(200)
			for i := range b.N {
				publish.Go(func() error {
					ev := kilobyte(i)
					ev.Subject = fmt.Sprint(i % 64)
					_, err := e.Publish(ctx, topic, ev)
					return err
				})
			}
			must(b, publish.Wait())
			b.ReportAllocs()
			b.ResetTimer()
			before := processor()
			if tc.take {
				take(b, e)
			} else {
				for _, s := range all {
					d.Set(s)
				}
				wg.Wait()
			}
			b.StopTimer()
			report(b, before)
		})
	}
	b.Run("client", func(b *testing.B) {
		server := subscriber(func() {})
		defer server.Close()
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
		b.ReportAllocs()
		b.SetParallelism(50)
		before := processor()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				ev := kilobyte(0)
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL, bytes.NewReader(ev.Data))
				if err != nil {
					b.Error(err)
					return
				}
				ev.ToHTTP(r.Header)
				resp, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
		report(b, before)
	})
}

// one is an engine on a JetStream of its own.
func one(t testing.TB) engine.Engine { return onJetStream(t)() }

func take(b *testing.B, e engine.Engine) {
	c, err := e.Consume(b.Context(), topic, "t1")
	must(b, err)
	defer c.Close()
	c.SetInFlight(128)
	var acks errgroup.Group
	acks.SetLimit(100)
	for range b.N {
		d, err := c.Next(b.Context())
		must(b, err)
		acks.Go(func() error { return d.Ack(b.Context()) })
	}
	must(b, acks.Wait())
}

func subscriber(got func()) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
		got()
	}))
}

func kilobyte(i int) *event.Event {
	return &event.Event{ID: fmt.Sprint(i), Source: "/bench", Type: "bench.event", DataContentType: "application/octet-stream", Data: bytes.Repeat([]byte("x"), 1024)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func report(b *testing.B, before time.Duration) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64((processor()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// processor is the time that this process has used of it: of both sides, and not of what else runs on the machine.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
