package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// senders send events, each its own in their order, one each few milliseconds, and remember what was acknowledged.
type senders struct {
	taken atomic.Int64
	mu    sync.Mutex
	ids   []string
	wait  sync.WaitGroup
	errs  []error
}

func (s *senders) begin(ctx context.Context, url string, count int) {
	for k := range count {
		s.wait.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%06d", k, i)
				e := platform.Event{Data: "data of " + id, Attributes: map[string]string{
					"id": id, "source": "/test", "type": "work", "partitionkey": fmt.Sprint("k", k),
				}}
				// The last one is sent to its end too.
				err := platform.SendUntilTaken(context.WithoutCancel(ctx), url, e)
				s.mu.Lock()
				if err != nil {
					s.errs = append(s.errs, fmt.Errorf("event %s: %w", id, err))
					s.mu.Unlock()
					return
				}
				s.ids = append(s.ids, id)
				s.mu.Unlock()
				s.taken.Add(1)
				<-pace.C
			}
		})
	}
}

// more waits until so many more have been acknowledged.
func (s *senders) more(t *testing.T, n int64) {
	t.Helper()
	from := s.taken.Load()
	until(t, "events are acknowledged", func() error {
		if now := s.taken.Load(); now < from+n {
			s.mu.Lock()
			defer s.mu.Unlock()
			return fmt.Errorf("%d of %d (%w)", now-from, n, errors.Join(s.errs...))
		}
		return nil
	})
}

// TestEventsSurviveKills: the store, the eventing part and the subscriber are killed while events flow, alone and
// together. Every event that was acknowledged is delivered and its reply too, and those of one partition key in their order.
func TestEventsSurviveKills(t *testing.T) {
	shared.Platform(t) // skips where there is none
	p, err := platform.Start(t.Context(), platform.WithEventing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	w := worldOn(t, p)
	sink := platform.NewSink(t, nil)
	w.Deploy("worker", quick("min-scale", "1"))
	w.MakeReady(strings.ReplaceAll(`
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec: {delivery: {deadLetterSink: {uri: "SINK/dead"}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: work}
spec:
  broker: default
  filter: {attributes: {type: work}}
  subscriber:
    ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: worker}
    uri: /reply?type=done
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: done}
spec: {broker: default, filter: {attributes: {type: done}}, subscriber: {uri: "SINK/done"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: inorder, annotations: {ebb.dev/delivery-order: ordered}}
spec: {broker: default, filter: {attributes: {type: work}}, subscriber: {uri: "SINK/inorder"}}
`, "SINK", sink.URL))
	ctx, stop := context.WithCancel(t.Context())
	var s senders
	t.Cleanup(func() { stop(); s.wait.Wait() })
	s.begin(ctx, w.EventsURL(eventingv1.GroupVersion.WithKind("Broker"), "default"), 4)

	const between = 100
	part := func(name string) (back func()) {
		pid := w.Kill(t, name, syscall.SIGKILL)
		return func() { w.AwaitPart(t, name, pid) }
	}
	subscriber := func() (back func()) {
		pod := w.pods("worker", 1, 20)[0]
		w.SignalPod(t, pod, syscall.SIGKILL)
		return func() { // until its program runs again
			w.AwaitPods("worker", func(pods []*corev1.Pod) error {
				for _, p := range pods {
					if p.UID == pod.UID && (restarts(p) == restarts(pod) || !platform.PodReady(p)) {
						return fmt.Errorf("%s has not been started again", p.Name)
					}
				}
				return nil
			})
		}
	}
	for _, kill := range []func(){
		func() { part("nats")() },
		func() { part("eventing")() },
		func() { subscriber()() },
		func() {
			pod, nats, eventing := subscriber(), part("nats"), part("eventing")
			pod()
			nats()
			eventing()
		},
	} {
		s.more(t, between)
		kill()
		s.more(t, between)
	}
	stop()
	s.wait.Wait()
	for _, err := range s.errs {
		t.Error(err)
	}
	// What was tried too often is in the sink of dead letters, and not lost either.
	var lost []string
	t.Cleanup(func() {
		if t.Failed() {
			w.showEvents(sink)
		}
	})
	until(t, "all that was acknowledged arrives", func() error {
		done, inorder, dead := set(sink.IDs("/done")), set(sink.IDs("/inorder")), set(sink.IDs("/dead"))
		lost = nil
		for _, id := range s.ids {
			if !done[id+"/done"] && !dead[id] && !dead[id+"/done"] || !inorder[id] && !dead[id] {
				lost = append(lost, id)
			}
		}
		if len(lost) > 0 {
			return fmt.Errorf("%d of %d are missing, the first is %s; there are %d replies, %d in order and %d dead letters", len(lost), len(s.ids), lost[0], len(done), len(inorder), len(dead))
		}
		return nil
	})
	last, seen := map[string]string{}, map[string]bool{}
	for _, d := range sink.Taken("/inorder") {
		key := d.Attribute("partitionkey")
		if !seen[d.ID()] && d.ID() < last[key] {
			t.Errorf("%s comes after %s, of the same key", d.ID(), last[key])
		}
		seen[d.ID()], last[key] = true, max(last[key], d.ID())
	}
	t.Logf("%d events acknowledged; %d lost; delivered twice: %d of %d replies, %d of %d in order; %d dead letters", len(s.ids), len(lost),
		len(sink.Taken("/done"))-len(sink.IDs("/done")), len(sink.Taken("/done")),
		len(sink.Taken("/inorder"))-len(sink.IDs("/inorder")), len(sink.Taken("/inorder")), len(sink.Taken("/dead")))
}

// showEvents logs what the dispatcher says of the test's Triggers.
func (w *world) showEvents(sink *platform.Sink) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+w.Running().Eventing+"/metrics", nil)
	if err != nil {
		return
	}
	answer, err := platform.Call(http.DefaultClient, r)
	var lines []string
	for line := range strings.Lines(answer.Body) {
		if strings.HasPrefix(line, "ebb_dispatcher_") && strings.Contains(line, w.In) {
			lines = append(lines, line)
		}
	}
	w.Logf("dispatcher (%v), with %d deliveries to the sink in order:\n%s", err, len(sink.Taken("/inorder")), strings.Join(lines, ""))
}

func set(words []string) map[string]bool {
	all := map[string]bool{}
	for _, w := range words {
		all[w] = true
	}
	return all
}
