package faults

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// The control plane dies in the middle of a rollout: it goes on where it was, with the steps it would have taken.
func TestControllerKilledInARollout(t *testing.T) {
	w := newWorld(t)
	w.Deploy("web", func(s *v1.Service) {
		quick("min-scale", "1", "target", "100")(s)
		s.Annotations = map[string]string{"serving.knative.dev/rollout-duration": "30s"}
	})
	load := w.rate(t, "web", "/", 100)
	w.await(t, load, 100)
	w.Change("web", func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "TARGET", Value: "second"}}
	})
	share := func(s *v1.Service) (percent int64) {
		for _, target := range s.Status.Traffic {
			if target.RevisionName == "web-00002" {
				percent = *target.Percent
			}
		}
		return percent
	}
	before := int64(0)
	w.AwaitService("web", func(s *v1.Service) error {
		if before = share(s); before < 15 {
			return fmt.Errorf("at %d%%", before)
		}
		return nil
	})
	w.restart("controller")
	last, steps := before, 0
	w.AwaitService("web", func(s *v1.Service) error {
		now := share(s)
		if now < last {
			t.Errorf("after the restart it fell from %d%% to %d%%", last, now)
		}
		if now != last {
			last, steps = now, steps+1
		}
		if now < 100 {
			return fmt.Errorf("at %d%%", now)
		}
		return platform.Ready(s.Generation, s.Status.Status)
	})
	t.Logf("killed at %d%%, %d steps afterwards", before, steps)
	if steps < 3 {
		t.Errorf("%d steps after the restart, from %d%%", steps, before)
	}
	load.stopClean(t)
}
