package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestBacklogScales: with metric ebb.dev/backlog the events that are stored bring several pods, from zero and before any of them has been
// answered; `ebb explain` says how many wait; all are delivered, and then the pods go.
func TestBacklogScales(t *testing.T) {
	n := beginEvents(t)
	url := withBroker(n)
	var open atomic.Bool
	sink := platform.NewSink(t, func(d platform.Delivery, w http.ResponseWriter) bool {
		if d.Path == "/gate" && !open.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return d.Path == "/gate"
	})
	const pods, events, target = 4, 200, 10
	n.DeployAtZero("worker", func(s *v1.Service) {
		for key, value := range map[string]string{
			serving.MetricAnnotation: serving.MetricBacklog, serving.TargetAnnotation: fmt.Sprint(target), serving.MaxScaleAnnotation: fmt.Sprint(pods),
		} {
			s.Spec.Template.Annotations[key] = value
		}
		// No pod serves before the test says so: until then nothing is delivered.
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "START_WHEN", Value: sink.URL + "/gate"}}
	})
	n.MakeReady(fmt.Sprintf(`
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
spec:
  broker: default
  filter: {attributes: {type: done}}
  subscriber: {uri: %s/done}
`, sink.URL))
	var want []string
	for i := range events {
		id := fmt.Sprintf("e%03d", i)
		n.Send(url, event(id, "work"))
		want = append(want, id+"/done")
	}
	n.AwaitPods("worker", func(now []*corev1.Pod) error {
		if len(now) != pods {
			return fmt.Errorf("%d pods, want %d for %d events at %d a pod and max-scale", len(now), pods, events, target)
		}
		return nil
	})
	// The last events may be counted half a second later.
	platform.Until(t, "ebb explain", func() error {
		said := fmt.Sprintf("%d events wait or are in flight", events)
		if text := command(t, n, "explain", "worker"); !strings.Contains(text, said) {
			return fmt.Errorf("it does not say %q:\n%s", said, text)
		}
		return nil
	})
	if taken := sink.IDs("/done"); len(taken) > 0 {
		t.Errorf("%d events are delivered to pods that do not serve: %v", len(taken), taken)
	}
	open.Store(true)
	sink.Await(t, "/done", want...)
	n.AwaitZero("worker")
}
