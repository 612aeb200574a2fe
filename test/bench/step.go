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

const stepMethod = "a warm Service with one pod that is to carry 7 requests (target 10, target-burst-capacity 0, default windows), called directly, gets so many requests of 100 ms at once and keeps them: from the first request to the change of the Deployment's scale as a watch shows it"

// steps measures the time from the first request of a step of load to the change of the Deployment's scale, as a watch sees it: a
// warm service with one pod that is to carry 7 requests, called directly, gets so many at once and keeps them. The windows are the default ones.
func (b *bench) steps(ctx context.Context, n int) error {
	for _, size := range []int{20, 60, 300} {
		if err := b.stepsOf(ctx, size, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) stepsOf(ctx context.Context, size, n int) error {
	var took []float64
	defer func() {
		b.sheet.Quantiles(fmt.Sprintf("step.scaled_*_ms.%d", size), "ms", stepMethod, took, 50, 90)
	}()
	for i := range n {
		d, err := b.step(ctx, fmt.Sprintf("step-%d-%d", size, i), size)
		if err != nil {
			return err
		}
		took = append(took, milliseconds(d))
		b.progress("step to %d requests, %d of %d: %.0f ms", size, i+1, n, took[i])
	}
	return nil
}

func (b *bench) step(ctx context.Context, name string, size int) (time.Duration, error) {
	if err := b.service(ctx, name, form{annotations: map[string]string{
		serving.MinScaleAnnotation: "1", serving.MaxScaleAnnotation: "3", serving.TargetAnnotation: "10", serving.TargetBurstCapacityAnnotation: "0",
	}}); err != nil {
		return 0, err
	}
	defer func() {
		s := &v1.Service{}
		s.Namespace, s.Name = namespace, name
		_ = b.Delete(ctx, s)
	}()
	if _, err := b.first(ctx, name); err != nil {
		return 0, err
	}
	w, err := b.Watch(ctx, &appsv1.DeploymentList{}, client.InNamespace(namespace), client.MatchingLabels{serving.ServiceLabel: name})
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
				b.send(ctx, transport, name, "/sleep?ms=100")
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
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-deadline:
			return 0, fmt.Errorf("%s was not scaled within a minute", name)
		}
	}
}
