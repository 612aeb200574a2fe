package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"ebb.dev/ebb/eventing/dispatcher"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/ingress"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/eventing/plan"
)

// senders are the connections of producers, each with one event on the way, as many as publishes of bare JetStream.
const senders = window

// platform is ingress, dispatcher and a subscriber, with one Broker and one Trigger.
type platform struct {
	engine     *jetstream.Engine
	ingress    *ingress.Ingress
	web        *http.Server
	address    string
	dispatcher *dispatcher.Dispatcher
	subscriber *subscriber
	topic      string
}

func newPlatform(ctx context.Context, url string) (*platform, error) {
	rounds++
	broker := plan.Address{Kind: plan.Broker, Namespace: "bench", Name: "main"}
	p := &platform{topic: plan.TopicName(broker, fmt.Sprintf("%08d", rounds))}
	var err error
	if p.engine, err = jetstream.Open(jetstream.Options{URL: url, Patience: 10 * time.Second}); err != nil {
		return nil, err
	}
	topic := engine.Topic{Name: p.topic}
	if err := p.engine.PutTopic(ctx, topic); err != nil {
		return nil, err
	}
	if err := p.engine.PutTopic(ctx, engine.Topic{Name: plan.DeadLetters(p.topic), KeepAll: true}); err != nil {
		return nil, err
	}
	const parallel = 128
	const ackWait = 5 * time.Second
	if err := p.engine.PutSubscription(ctx, engine.Subscription{Topic: p.topic, Name: "trigger", AckWait: ackWait, MaxInFlight: parallel}); err != nil {
		return nil, err
	}
	if p.subscriber, err = newSubscriber(ctx); err != nil {
		return nil, err
	}
	p.ingress = ingress.New(ingress.Options{Engine: p.engine})
	p.ingress.Set(plan.Topic{Address: broker, UID: "u", Engine: topic, Accepts: true, HopLimit: 255})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.address = listener.Addr().String()
	p.web = &http.Server{Handler: p.ingress, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.web.Serve(listener) }()
	p.dispatcher = dispatcher.New(dispatcher.Options{Engine: p.engine, AckWait: ackWait})
	p.dispatcher.Set(plan.Subscription{
		Topic: p.topic, Name: "trigger", Owner: plan.Reference{Kind: "Trigger", Namespace: "bench", Name: "trigger"},
		Subscriber: plan.Target{URL: "http://" + p.subscriber.address + "/"}, PartitionKey: "partitionkey", Parallelism: parallel,
		Delivery: plan.Delivery{Retry: 10, Backoff: plan.Exponential, Delay: 200 * time.Millisecond, Timeout: 30 * time.Second},
	})
	return p, nil
}

func (p *platform) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_ = p.ingress.Drain(ctx)
	_ = p.web.Close()
	p.dispatcher.Drain(ctx)
	_ = p.engine.DeleteTopic(ctx, p.topic)
	_ = p.engine.DeleteTopic(ctx, plan.DeadLetters(p.topic))
	_ = p.engine.Close()
	p.subscriber.close()
}

// throughput sends n events as fast as they are taken and returns events/s until the last has been delivered.
func (p *platform) throughput(ctx context.Context, n int) (float64, error) {
	begin := time.Now()
	if err := p.send(ctx, n, nil); err != nil {
		return 0, err
	}
	if err := p.subscriber.await(ctx, n); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// batches is throughput with so many events in a request.
func (p *platform) batches(ctx context.Context, n, size int) (float64, error) {
	begin := time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, senders)
	for range max(senders/size, 1) {
		all.Go(func() {
			s := &sender{address: p.address}
			defer s.close()
			for {
				i := int(next.Add(int64(size))) - size
				if i >= n {
					return
				}
				if status, err := s.postBatch(ctx, i, min(i+size, n)); err != nil || status != http.StatusAccepted {
					failed <- fmt.Errorf("a batch was answered %d: %w", status, err)
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	if err := p.subscriber.await(ctx, n); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// latency sends rate events a second and returns how long each took to the subscriber.
func (p *platform) latency(ctx context.Context, rate int, during time.Duration) ([]time.Duration, error) {
	n := int(during.Seconds() * float64(rate))
	sent := make([]time.Time, n)
	begin := time.Now()
	err := p.send(ctx, n, func(i int) {
		at := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(at))
		sent[i] = at // a sender that is late counts too
	})
	if err == nil {
		err = p.subscriber.await(ctx, n)
	}
	if err != nil {
		return nil, err
	}
	waits := []time.Duration{}
	for i, at := range sent {
		waits = append(waits, p.subscriber.first(i).Sub(at))
	}
	return waits[n/10:], nil // without the first, which open the connections
}

// faults kills the store while events are sent, and counts what was acknowledged and not delivered, and what
// was delivered more than once.
func (p *platform) faults(ctx context.Context, store *server, n, kills int) (lost, twice int, err error) {
	var acknowledged atomic.Int64
	done := make(chan error, 1)
	go func() {
		done <- p.sendCounted(ctx, n, nil, &acknowledged)
	}()
	for k := 1; k <= kills; k++ {
		for at := int64(k * n / (kills + 1)); acknowledged.Load() < at && ctx.Err() == nil; {
			time.Sleep(time.Millisecond) // between two looks
		}
		store.kill()
		if err := store.start(ctx); err != nil {
			return 0, 0, err
		}
	}
	if err := <-done; err != nil {
		return 0, 0, err
	}
	waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := p.subscriber.await(waiting, n); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return 0, 0, err
	}
	distinct, all := p.subscriber.counts()
	return n - distinct, all - distinct, nil
}

func (p *platform) send(ctx context.Context, n int, before func(int)) error {
	var acknowledged atomic.Int64
	return p.sendCounted(ctx, n, before, &acknowledged)
}

// sendCounted sends events 0 to n-1 over some connections, each until it is answered with 202.
func (p *platform) sendCounted(ctx context.Context, n int, before func(int), acknowledged *atomic.Int64) error {
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, senders)
	for range senders {
		all.Go(func() {
			s := &sender{address: p.address}
			defer s.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if before != nil {
					before(i)
				}
				for {
					status, err := s.post(ctx, i)
					if status == http.StatusAccepted {
						acknowledged.Add(1)
						break
					}
					if ctx.Err() != nil {
						failed <- ctx.Err()
						return
					}
					if err == nil && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
						failed <- fmt.Errorf("an event was answered %d", status)
						return
					}
					time.Sleep(20 * time.Millisecond) // as a producer that is told to come again
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
