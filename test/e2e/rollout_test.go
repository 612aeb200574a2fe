package e2e

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// shareOf is the percent of a revision in a Service's status.
func shareOf(s *v1.Service, revision string) (percent int64) {
	for _, t := range s.Status.Traffic {
		if t.RevisionName == revision {
			percent += *t.Percent
		}
	}
	return percent
}

// TestGradualRollout: under load, every step is in the status, no request fails, and the end is the new revision alone.
func TestGradualRollout(t *testing.T) {
	n := begin(t)
	n.Deploy("web", func(s *v1.Service) {
		says("one")(s)
		s.Annotations = map[string]string{serving.RolloutDurationAnnotation: "8s"}
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
	})
	l := startLoad(t, n, n.URL("web", "/"), 4)
	l.await(t, "the first revision answers", func(_ int, by map[string]int) bool { return by["web-00001"] > 50 })
	n.Change("web", says("two"))
	last, steps := int64(0), 0
	n.AwaitService("web", func(s *v1.Service) error {
		now, total := shareOf(s, "web-00002"), int64(0)
		for _, target := range s.Status.Traffic {
			total += *target.Percent
		}
		if total != 100 || now < last {
			t.Errorf("from %d%% to %+v", last, s.Status.Traffic)
		}
		if now != last {
			last, steps = now, steps+1
		}
		if now > 0 && now < 100 {
			if ready := s.Status.Conditions.Get(v1.ConditionReady); !ready.IsUnknown() || ready.Reason != v1.ReasonRolloutInProgress {
				return fmt.Errorf("at %d%% the conditions are %s", now, platform.Describe(s.Status.Conditions))
			}
		}
		if now < 100 {
			return fmt.Errorf("the second revision has %d%%", now)
		}
		return platform.Ready(s.Generation, s.Status.Status)
	})
	if steps < 4 {
		t.Errorf("%d steps in 8 s", steps)
	}
	for i, a := range many(t, n, n.URL("web", "/"), 100, 4) {
		if a.Body != "web-00002 two\n" {
			t.Fatalf("after the rollout answer %d is %s", i, a)
		}
	}
	by := l.check(t)
	if by["web-00001"] == 0 || by["web-00002"] == 0 {
		t.Errorf("answers by revision: %v", by)
	}
}

// TestRolloutStopsAtAFailingRevision: a revision that never gets ready changes nothing of the rollout that is on its way.
func TestRolloutStopsAtAFailingRevision(t *testing.T) {
	n := begin(t)
	n.Deploy("web", func(s *v1.Service) {
		says("one")(s)
		s.Annotations = map[string]string{serving.RolloutDurationAnnotation: "1h"}
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
	})
	n.Change("web", says("two"))
	n.AwaitService("web", func(s *v1.Service) error {
		if shareOf(s, "web-00002") != 1 {
			return errors.New("the rollout has not begun")
		}
		return nil
	})
	n.Change("web", func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "FAIL_AT_START", Value: "not today"}}
	})
	s := n.AwaitService("web", func(s *v1.Service) error {
		if ready := s.Status.Conditions.Get(v1.ConditionReady); !ready.IsFalse() || s.Status.LatestCreatedRevisionName != "web-00003" {
			return errors.New("the third revision has not failed")
		}
		return nil
	})
	if shareOf(s, "web-00001") != 99 || shareOf(s, "web-00002") != 1 {
		t.Errorf("a revision that never was ready changed the traffic: %+v", s.Status.Traffic)
	}
	// No duration: the rest at once.
	n.Change("web", func(s *v1.Service) {
		says("four")(s)
		s.Annotations[serving.RolloutDurationAnnotation] = "0s"
	})
	n.AwaitReady("web")
	if a := n.MustFetch(t, n.URL("web", "/")); a.Body != "web-00004 four\n" {
		t.Errorf("it answers %s", a)
	}
}

// TestRolloutOfATag: in the middle of a rollout the host of a tag splits as its target does.
func TestRolloutOfATag(t *testing.T) {
	n := begin(t)
	n.Deploy("web", func(s *v1.Service) {
		says("one")(s)
		s.Annotations = map[string]string{serving.RolloutDurationAnnotation: "1h"}
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
	})
	follows, two := true, int64(2)
	n.Change("web", route(percent("web-00001", 98, ""), v1.TrafficTarget{LatestRevision: &follows, Percent: &two, Tag: "live"}))
	n.AwaitReady("web")
	n.Change("web", says("two"))
	// One percent of two: half of the tag's.
	n.AwaitService("web", func(s *v1.Service) error {
		if shareOf(s, "web-00002") != 1 || shareOf(s, "web-00001") != 99 {
			return fmt.Errorf("traffic is %+v", s.Status.Traffic)
		}
		return nil
	})
	n.AwaitAnswer(t, platform.External, n.URL("live-web", "/"), func(a platform.Answer) bool { return a.Revision() == "web-00002" })
	by := map[string]int{}
	for _, a := range many(t, n, n.URL("live-web", "/"), 200, 8) {
		by[a.Revision()]++
	}
	if by["web-00001"] < 50 || by["web-00002"] < 50 {
		t.Errorf("the tag's host answers by revision %v", by)
	}
	n.Change("web", func(s *v1.Service) { s.Annotations[serving.RolloutDurationAnnotation] = "0s" })
	n.AwaitReady("web")
	for i, a := range many(t, n, n.URL("live-web", "/"), 50, 8) {
		if a.Revision() != "web-00002" {
			t.Fatalf("after the rollout the tag's host answers %d with %s", i, a)
		}
	}
}
