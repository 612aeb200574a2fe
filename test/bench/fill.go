package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// atATime is how many Services are being made at a time while the platform is filled.
const atATime = 16

// fill makes idle Services, never started, until there are so many in all.
func (b *bench) fill(ctx context.Context, services int) error {
	var have v1.ServiceList
	if err := b.List(ctx, &have, client.InNamespace(namespace)); err != nil {
		return err
	}
	idle := 0
	for _, s := range have.Items {
		if strings.HasPrefix(s.Name, "idle-") {
			idle++
		}
	}
	missing := services - len(have.Items)
	if missing <= 0 {
		return nil
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	places := make(chan struct{}, atATime)
	var mu sync.Mutex
	pending := map[string]bool{}
	if err := b.eachReady(ctx, namespace, func(name string) {
		mu.Lock()
		mine := pending[name]
		delete(pending, name)
		mu.Unlock()
		if mine {
			<-places
		}
	}); err != nil {
		return err
	}
	take := func() error {
		select {
		case places <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(patience):
			return fmt.Errorf("waited %s for a Service to be Ready", patience)
		}
	}
	for i := range missing {
		if err := take(); err != nil {
			return err
		}
		name := fmt.Sprintf("idle-%d", idle+i)
		mu.Lock()
		pending[name] = true
		mu.Unlock()
		if err := b.Create(ctx, b.object(namespace, name, atZero)); err != nil {
			return err
		}
		b.progress("%d of %d Services made", len(have.Items)+i, services)
	}
	for range atATime { // once all places are taken here, nobody else has one
		if err := take(); err != nil {
			return err
		}
	}
	if missing < 100 {
		return nil // too few for a figure
	}
	b.add(fmt.Sprintf("create.each_ms.%d", services), "ms", milliseconds(time.Since(began))/float64(missing), missing,
		fmt.Sprintf("Services at zero made one after the other, %d at a time, until there were %d, each until Ready: the whole time over their number", atATime, services))
	return nil
}
