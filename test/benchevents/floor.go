package main

import (
	"context"
	"time"
)

// runHTTP sends n events straight from the senders to the subscriber: one hop of HTTP/1.1 as the harness speaks it, with nothing
// between. The way of an event has two, and the store.
func runHTTP(ctx context.Context, n int) (float64, error) {
	s, err := newSubscriber(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close()
	p := &platform{address: s.address, subscriber: s}
	begin := time.Now()
	if err := p.send(ctx, n, nil); err != nil {
		return 0, err
	}
	if err := s.await(ctx, n); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
