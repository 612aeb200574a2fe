package faults

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
)

// The controller is killed in the middle of a burst, three times: no pod is given up for it, and none is added to be taken away again.
func TestControllerKilledInABurst(t *testing.T) {
	w := newWorld(t)
	// 20 requests in flight, 5.6 a pod: four pods, with room on both sides.
	w.Deploy("web", quick("target", "8"))
	load := w.loop(t, "web", "/sleep?ms=2000", 20)
	w.pods("web", 4, 4)
	w.await(t, load, 100) // a window and more
	w.pods("web", 4, 4)
	scales := w.scales(t, "web")
	for range 3 {
		pid := w.Kill(t, "controller", syscall.SIGKILL)
		w.AwaitPart(t, "controller", pid)
		w.await(t, load, 150) // two windows
	}
	w.pods("web", 4, 4)
	if seen := scales(); len(seen) == 0 || slices.ContainsFunc(seen, func(n int32) bool { return n != 4 }) {
		t.Errorf("the scale was %v, want 4 all the time", seen)
	}
	load.stopClean(t)
	w.AwaitZero("web")
	until(t, "the watch sees it", func() error {
		if seen := scales(); seen[len(seen)-1] != 0 {
			return fmt.Errorf("after the load the scale went %v, want down to 0", seen)
		}
		return nil
	})
}

// scales watches how many pods the autoscaler asks for; the function returned gives all numbers so far, each change once.
func (w *world) scales(t *testing.T, service string) func() []int32 {
	t.Helper()
	var mu sync.Mutex
	var seen []int32
	look := func(d *appsv1.Deployment) {
		mu.Lock()
		defer mu.Unlock()
		if n := d.Spec.Replicas; n != nil && (len(seen) == 0 || seen[len(seen)-1] != *n) {
			seen = append(seen, *n)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	events, err := w.Watch(ctx, &appsv1.DeploymentList{}, client.InNamespace(w.In), client.MatchingLabels{serving.ServiceLabel: service})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer events.Stop()
		for e := range events.ResultChan() {
			if d, is := e.Object.(*appsv1.Deployment); is {
				look(d)
			}
		}
	}()
	until(t, "the watch has begun", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) == 0 {
			return fmt.Errorf("no deployment of %s was seen", service)
		}
		return nil
	})
	return func() []int32 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}
