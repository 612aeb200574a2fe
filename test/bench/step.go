package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// steps measures the time from the first request of a step of load to the change of the Deployment's scale, as a watch sees it: a
// warm service with one pod that is to carry 7 requests, called directly, gets so many at once and keeps them. The windows are the default ones.
func (b *bench) steps(ctx context.Context, n int) error {
	for _, size := range []int{20, 60, 300} {
		var took []float64
		for i := range n {
			d, err := b.step(ctx, fmt.Sprintf("step-%d-%d", size, i), size)
			if err != nil {
				return err
			}
			took = append(took, milliseconds(d))
		}
		b.add(fmt.Sprintf("step from 0 to %d requests in flight on a pod for 7, until scaled", size), "ms", took...)
	}
	return nil
}

func (b *bench) step(ctx context.Context, name string, size int) (time.Duration, error) {
	if err := b.service(ctx, name, map[string]string{
		serving.MinScaleAnnotation: "1", serving.MaxScaleAnnotation: "3", serving.TargetAnnotation: "10", serving.TargetBurstCapacityAnnotation: "0",
	}, nil); err != nil {
		return 0, err
	}
	defer func() {
		s := &v1.Service{}
		s.Namespace, s.Name = "default", name
		_ = b.Delete(ctx, s)
	}()
	if _, err := b.get(ctx, name); err != nil {
		return 0, err
	}
	watcher, err := client.NewWithWatch(b.config, client.Options{Scheme: b.Scheme()})
	if err != nil {
		return 0, err
	}
	w, err := watcher.Watch(ctx, &appsv1.DeploymentList{}, client.InNamespace("default"), client.MatchingLabels{serving.ServiceLabel: name})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	transport := &http.Transport{MaxIdleConnsPerHost: size}
	defer transport.CloseIdleConnections()
	began := time.Now()
	for range size {
		group.Go(func() {
			for ctx.Err() == nil {
				_ = b.send(ctx, transport, name, "/sleep?ms=100")
			}
		})
	}
	deadline := time.After(time.Minute)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return 0, errors.New("the watch of deployments ended")
			}
			if d, is := e.Object.(*appsv1.Deployment); is && d.Spec.Replicas != nil && *d.Spec.Replicas > 1 {
				return time.Since(began), nil
			}
		case <-deadline:
			return 0, fmt.Errorf("%s was not scaled within a minute", name)
		}
	}
}
