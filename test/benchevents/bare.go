package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	api "github.com/nats-io/nats.go/jetstream"
)

const (
	window = 256 // on the way without an answer, on either side
	size   = 1024
)

var rounds int

// runBare publishes and consumes n events by nats.go alone: asynchronous publishes with message ids, acknowledgements
// that are answered. It returns events/s until the last is acknowledged.
func runBare(ctx context.Context, url string, n int) (float64, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	js, err := api.New(nc, api.WithPublishAsyncMaxPending(window), api.WithPublishAsyncErrHandler(func(_ api.JetStream, _ *nats.Msg, err error) { fail(err) }))
	if err != nil {
		return 0, err
	}
	rounds++
	name := fmt.Sprintf("bare-%d", rounds)
	s, err := js.CreateStream(ctx, api.StreamConfig{Name: name, Subjects: []string{name}})
	if err != nil {
		return 0, err
	}
	defer func() { _ = js.DeleteStream(ctx, name) }()
	c, err := s.CreateConsumer(ctx, api.ConsumerConfig{Durable: "s", AckPolicy: api.AckExplicitPolicy})
	if err != nil {
		return 0, err
	}
	var all sync.WaitGroup
	all.Add(n)
	slots := make(chan struct{}, window)
	consuming, err := c.Consume(func(m api.Msg) {
		slots <- struct{}{}
		go func() {
			if err := m.DoubleAck(ctx); err != nil {
				fail(err)
			}
			<-slots
			all.Done()
		}()
	}, api.PullMaxMessages(window))
	if err != nil {
		return 0, err
	}
	defer consuming.Stop()
	data := make([]byte, size)
	begin := time.Now()
	for i := range n {
		if _, err := js.PublishMsgAsync(&nats.Msg{Subject: name, Data: data}, api.WithMsgID(fmt.Sprint(i)), api.WithStallWait(time.Minute)); err != nil {
			return 0, err
		}
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
		return float64(n) / time.Since(begin).Seconds(), nil
	case err := <-failed:
		return 0, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
