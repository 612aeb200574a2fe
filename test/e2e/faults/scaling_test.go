package faults

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/test/e2e/platform"
)

func TestScaling(t *testing.T) {
	shared.Platform(t)
	t.Run("20s", func(t *testing.T) { t.Parallel(); upAndDown(t, 20*time.Second) })
	t.Run("60s", func(t *testing.T) { t.Parallel(); upAndDown(t, 60*time.Second) })
	t.Run("taken back", func(t *testing.T) { t.Parallel(); takenBack(t) })
	t.Run("pods deleted", func(t *testing.T) { t.Parallel(); podsDeleted(t) })
}

// Up under load, then down to zero, with requests and websockets of the length given in the pods that go.
func upAndDown(t *testing.T, length time.Duration) {
	w := newWorld(t)
	w.Deploy("web", quick())
	deleted := w.deletions(t, "web")
	load := w.loop(t, "web", "/sleep?ms=200", 20)
	w.AwaitPods("web", atLeast(4))
	holds := append(w.long("web", length, 4), w.websockets(t, "web", length, 4)...)
	few := w.rate(t, "web", "/", 20)
	load.stopClean(t)
	// Down while they are open: those that have nothing go at once.
	w.AwaitPods("web", func(pods []*corev1.Pod) error {
		for _, p := range pods {
			if p.DeletionTimestamp == nil && p.Annotations["controller.kubernetes.io/pod-deletion-cost"] != "" {
				return fmt.Errorf("pod %s stays and has a deletion cost", p.Name)
			}
		}
		return atMost(3)(pods)
	})
	finished(t, holds)
	few.stopClean(t)
	w.AwaitZero("web")
	marked, all := deleted()
	if marked != all {
		t.Errorf("%d of %d pods that were deleted had been chosen (deletion cost)", marked, all)
	}
	t.Logf("%d pods deleted, %d with a deletion cost", all, marked)
	if _, err := w.get(t.Context(), "web", "/"); err != nil {
		t.Errorf("from zero: %v", err)
	}
}

// deletions watches a service's pods; the function returned says how many were deleted, and how many of these with a cost.
func (w *world) deletions(t *testing.T, service string) func() (marked, all int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	events, err := w.Watch(ctx, &corev1.PodList{}, client.InNamespace(w.In), client.MatchingLabels{serving.ServiceLabel: service})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	var mu sync.Mutex
	gone := map[string]bool{}
	go func() {
		defer events.Stop()
		for e := range events.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && e.Type == watch.Deleted {
				mu.Lock()
				gone[p.Name] = p.Annotations["controller.kubernetes.io/pod-deletion-cost"] != ""
				mu.Unlock()
			}
		}
	}()
	return func() (marked, all int) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range gone {
			if m {
				marked++
			}
		}
		return marked, len(gone)
	}
}

func atLeast(n int) func([]*corev1.Pod) error {
	return func(pods []*corev1.Pod) error {
		ready := 0
		for _, p := range pods {
			if p.DeletionTimestamp == nil && platform.PodReady(p) {
				ready++
			}
		}
		if ready < n {
			return fmt.Errorf("%d are ready, want %d or more", ready, n)
		}
		return nil
	}
}

func atMost(n int) func([]*corev1.Pod) error {
	return func(pods []*corev1.Pod) error {
		if len(pods) > n {
			return fmt.Errorf("there are %d, want %d or fewer", len(pods), n)
		}
		return nil
	}
}

// Victims that still have requests are taken back when demand returns: no pod is started and each gets requests again.
func takenBack(t *testing.T) {
	w := newWorld(t)
	w.Deploy("web", quick("max-scale", "4"))
	load := w.loop(t, "web", "/sleep?ms=100", 40)
	before := w.pods("web", 4, 4)
	until(t, "the gateway knows all pods", func() error {
		for name, n := range totals(t, before) {
			if n == 0 {
				return fmt.Errorf("%s has had no request", name)
			}
		}
		return nil
	})
	load.stopClean(t)
	holds, end := w.oneEach(t, before)
	// What is drained gets nothing new: wait until some pod has no share of the traffic. A pod that has more
	// websockets than any other is passed over often, but not in 120 picks.
	few := w.rate(t, "web", "/", 80)
	until(t, "a pod is draining", func() error {
		was := totals(t, before)
		w.await(t, few, 120)
		for name, n := range totals(t, before) {
			if n == was[name] {
				return nil
			}
		}
		return fmt.Errorf("all pods get requests")
	})
	again := w.loop(t, "web", "/sleep?ms=100", 40)
	until(t, "all pods get requests again", func() error {
		was := totals(t, before)
		w.await(t, again, 40)
		for name, n := range totals(t, before) {
			if n == was[name] {
				return fmt.Errorf("%s gets none", name)
			}
		}
		return nil
	})
	if after := w.pods("web", 4, 4); !maps.Equal(names(before), names(after)) {
		t.Errorf("pods before %v, after %v", names(before), names(after))
	}
	again.stopClean(t)
	few.stopClean(t)
	end()
	finished(t, holds)
}

func totals(t *testing.T, pods []*corev1.Pod) map[string]int64 {
	out := map[string]int64{}
	for _, p := range pods {
		out[p.Name] = counters(t, p).Total
	}
	return out
}

// oneEach opens websockets until each pod has one: a victim that is idle goes at once. They are at
// most ten, so that three pods would do (3.5 each); the pods are picked at random, so that may take several tries.
func (w *world) oneEach(t *testing.T, pods []*corev1.Pod) (holds []*hold, end func()) {
	t.Helper()
	for {
		until(t, "no pod has anything", func() error {
			for _, p := range pods {
				if n := counters(t, p).Now; n > 0 {
					return fmt.Errorf("%s has %d", p.Name, n)
				}
			}
			return nil
		})
		ended := make(chan struct{})
		end := sync.OnceFunc(func() { close(ended) })
		t.Cleanup(end)
		var holds []*hold
		for len(holds) < 10 {
			holds = append(holds, w.websocketsUntil(t, "web", ended, 1)...)
			if !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return counters(t, p).Now == 0 }) {
				return holds, end
			}
		}
		end()
		finished(t, holds)
	}
}

// await returns when n more requests have been answered.
func (w *world) await(t *testing.T, tr *traffic, n int) {
	t.Helper()
	start, _ := tr.answers()
	until(t, "traffic goes on", func() error {
		if now, _ := tr.answers(); now < start+n {
			return fmt.Errorf("%d answers", now-start)
		}
		return nil
	})
}

// Pods that others delete finish what they have and get nothing new.
func podsDeleted(t *testing.T) {
	w := newWorld(t)
	w.Deploy("web", quick("min-scale", "3"))
	w.pods("web", 3, 3)
	load := w.rate(t, "web", "/", 100)
	slow := w.loop(t, "web", "/sleep?ms=1500", 6)
	holds := w.websockets(t, "web", 15*time.Second, 3)
	for range 6 {
		victim := w.pods("web", 3, 8)[0]
		w.await(t, load, 50)
		if err := w.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.In, Name: victim.Name}}); err != nil {
			t.Fatal(err)
		}
		w.AwaitPods("web", func(pods []*corev1.Pod) error {
			for _, p := range pods {
				if p.Name == victim.Name && p.DeletionTimestamp == nil {
					return fmt.Errorf("%s is still there", p.Name)
				}
			}
			return atLeast(3)(pods)
		})
	}
	load.stopClean(t)
	slow.stopClean(t)
	finished(t, holds)
}
