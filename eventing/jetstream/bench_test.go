package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	api "github.com/nats-io/nats.go/jetstream"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

const benchWindow = 256 // publishes or deliveries without an answer, on either side

func kilobyte(n int64) *event.Event {
	return &event.Event{
		ID: fmt.Sprint(n), Source: "/bench", Type: "dev.ebb.bench", Time: "2026-01-02T03:04:05Z", DataContentType: "application/json",
		Extensions: []event.Attribute{{Name: "knativebrokerttl", Value: "255"}}, Data: make([]byte, 1024),
	}
}

// BenchmarkPublish publishes events of 1 KB until each was acknowledged, with 256 on the way: by
// the Engine and by nats.go alone, and prints how many the Engine does for one of nats.go's.
func BenchmarkPublish(b *testing.B) {
	b.ReportAllocs()
	p := startServer(b)
	run := bench{b: b, url: p.url}
	var ours, bare time.Duration
	const events = 20000
	for b.Loop() {
		bare += run.bare(events, false)
		ours += run.ours(events, false)
	}
	report(b, events, ours, bare)
}

// BenchmarkPublishConsume publishes and consumes at once, every event acknowledged on both sides.
func BenchmarkPublishConsume(b *testing.B) {
	b.ReportAllocs()
	p := startServer(b)
	run := bench{b: b, url: p.url}
	var ours, bare time.Duration
	const events = 20000
	for b.Loop() {
		bare += run.bare(events, true)
		ours += run.ours(events, true)
	}
	report(b, events, ours, bare)
}

func report(b *testing.B, events int, ours, bare time.Duration) {
	n := float64(events) * float64(b.N)
	b.ReportMetric(n/ours.Seconds(), "engine-events/s")
	b.ReportMetric(n/bare.Seconds(), "nats.go-events/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
}

type bench struct {
	b    *testing.B
	url  string
	next int64
}

func (r *bench) must(err error) {
	if err != nil {
		r.b.Helper()
		r.b.Fatal(err)
	}
}

func (r *bench) ours(n int, consume bool) time.Duration {
	ctx := context.Background()
	e := openAt(r.b, r.url)
	topic := fmt.Sprintf("b.bench.ours.%d", r.id())
	r.must(e.PutTopic(ctx, engine.Topic{Name: topic}))
	var all sync.WaitGroup
	if consume {
		r.must(e.PutSubscription(ctx, engine.Subscription{Topic: topic, Name: "s"}))
		c, err := e.Consume(ctx, topic, "s")
		r.must(err)
		c.SetInFlight(benchWindow)
		left := int64(n)
		all.Add(n)
		for range benchWindow {
			go func() {
				for atomic.AddInt64(&left, -1) >= 0 {
					d, err := c.Next(ctx)
					if err == nil {
						err = d.Ack(ctx)
					}
					if err != nil {
						r.b.Error(err)
					}
					all.Done()
				}
			}()
		}
	}
	begin := time.Now()
	var publishing sync.WaitGroup
	for w := range benchWindow {
		publishing.Go(func() {
			for i := w; i < n; i += benchWindow {
				if _, err := e.Publish(ctx, topic, kilobyte(int64(i))); err != nil {
					r.b.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	all.Wait()
	took := time.Since(begin)
	r.must(e.DeleteTopic(ctx, topic))
	r.must(e.Close())
	return took
}

func (r *bench) id() int64 { r.next++; return r.next }

func (r *bench) bare(n int, consume bool) time.Duration {
	ctx := context.Background()
	nc, err := nats.Connect(r.url)
	r.must(err)
	defer nc.Close()
	var all sync.WaitGroup
	done := make(chan error, 1)
	all.Add(n)
	js, err := api.New(nc, api.WithPublishAsyncMaxPending(benchWindow), api.WithPublishAsyncErrHandler(func(_ api.JetStream, _ *nats.Msg, err error) {
		select {
		case done <- err:
		default:
		}
	}))
	r.must(err)
	name := fmt.Sprintf("bare-%d", r.id())
	s, err := js.CreateStream(ctx, api.StreamConfig{Name: name, Subjects: []string{name}})
	r.must(err)
	if consume {
		c, err := s.CreateConsumer(ctx, api.ConsumerConfig{Durable: "s", AckPolicy: api.AckExplicitPolicy})
		r.must(err)
		// Acknowledged as the Engine does: when the server has it.
		slots := make(chan struct{}, benchWindow)
		consuming, err := c.Consume(func(m api.Msg) {
			slots <- struct{}{}
			go func() {
				if err := m.DoubleAck(ctx); err != nil {
					r.b.Error(err)
				}
				<-slots
				all.Done()
			}()
		}, api.PullMaxMessages(benchWindow))
		r.must(err)
		defer consuming.Stop()
	}
	data := make([]byte, 1024)
	begin := time.Now()
	for i := range n {
		_, err := js.PublishMsgAsync(&nats.Msg{Subject: name, Data: data}, api.WithMsgID(fmt.Sprint(i)), api.WithStallWait(time.Minute))
		r.must(err)
	}
	<-js.PublishAsyncComplete()
	if consume {
		all.Wait()
	}
	took := time.Since(begin)
	select {
	case err := <-done:
		r.b.Error(err)
	default:
	}
	r.must(js.DeleteStream(ctx, name))
	return took
}
