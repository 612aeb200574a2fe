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

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/engine/memory"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// BenchmarkDeliver is an event of 1 KB from the engine (in memory) to a subscriber on a real connection, acknowledged. The
// subscriber's side is in it. "client" is Go's HTTP client alone, as many requests at once, to the same subscriber.
func BenchmarkDeliver(b *testing.B) {
	subscriber := func(got func()) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusAccepted)
			got()
		}))
	}
	data := bytes.Repeat([]byte("x"), 1024)
	one := func(i int) *event.Event {
		return &event.Event{ID: fmt.Sprint(i), Source: "/bench", Type: "bench.event", DataContentType: "application/octet-stream", Data: data}
	}
	for _, ordered := range []bool{false, true} {
		b.Run(fmt.Sprintf("ordered=%v", ordered), func(b *testing.B) {
			var wg sync.WaitGroup
			server := subscriber(wg.Done)
			defer server.Close()
			e := memory.New()
			ctx := b.Context()
			for _, err := range []error{
				e.PutTopic(ctx, engine.Topic{Name: topic, Duplicates: time.Nanosecond}),
				e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: "t1", Ordered: ordered}),
			} {
				if err != nil {
					b.Fatal(err)
				}
			}
			d := New(Options{Engine: e})
			defer kill(d)
			wg.Add(b.N)
			for i := range b.N {
				ev := one(i)
				ev.Subject = fmt.Sprint(i % 64)
				if _, err := e.Publish(ctx, topic, ev); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := processor()
			d.Set(plan.Subscription{Topic: topic, Name: "t1", Subscriber: plan.Target{URL: server.URL}, PartitionKey: "partitionkey", Parallelism: 100, Ordered: ordered,
				Delivery: plan.Delivery{Retry: 3, Timeout: time.Minute}})
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64((processor()-before).Microseconds())/float64(b.N), "cpu-µs/op")
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
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL, bytes.NewReader(data))
				if err != nil {
					b.Error(err)
					return
				}
				one(0).ToHTTP(r.Header)
				resp, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64((processor()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	})
}

// processor is the time that this process has used of it: of both sides, and not of what else runs on the machine.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
