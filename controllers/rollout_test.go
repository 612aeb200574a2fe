package controllers_test

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// served is the traffic of a status in a line.
func served(traffic []v1.TrafficTarget) string {
	line := ""
	for _, t := range traffic {
		line += fmt.Sprintf("%s=%d ", t.RevisionName, *t.Percent)
	}
	return line
}

// rollout follows every version of a Route through a rollout.
func rollout(t *testing.T, p *platform, ns string) {
	s := p.service(ns, "slow", "app:v1")
	s.Annotations = map[string]string{serving.RolloutDurationAnnotation: "3s"}
	p.create(t, s)
	p.pod(t, ns, "slow-00001", "slow-1", up)
	eventually(t, p, &v1.Service{}, ns, "slow", "the first revision has everything at once", func(s *v1.Service) string {
		if served(s.Status.Traffic) != "slow-00001=100 " {
			return "not yet"
		}
		return isReady(s)
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	routes, err := p.watcher.Watch(ctx, &v1.RouteList{}, client.InNamespace(ns))
	if err != nil {
		t.Fatal(err)
	}
	defer routes.Stop()
	update(t, p, &v1.Service{}, ns, "slow", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2" })
	p.pod(t, ns, "slow-00002", "slow-2", up)

	var steps []string
	versions, last := map[string]bool{}, ""
	for event := range routes.ResultChan() {
		r, is := event.Object.(*v1.Route)
		if !is || event.Type == watch.Deleted {
			t.Fatalf("%s %T", event.Type, event.Object)
		}
		now := served(r.Status.Traffic)
		if len(r.Status.Traffic) == 2 {
			versions[r.ResourceVersion] = true
			if why := says(r.Status.Conditions, v1.ConditionReady, unknown, v1.ReasonRolloutInProgress, ""); why != "" {
				t.Errorf("%s: %s", now, why)
			}
			if why := says(r.Status.Conditions, v1.RouteAllTrafficAssigned, yes, "", ""); why != "" {
				t.Errorf("%s: %s", now, why)
			}
		}
		if now != last {
			steps, last = append(steps, now), now
		}
		if now == "slow-00002=100 " && r.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
			if len(r.Status.Annotations) > 0 {
				t.Errorf("after the rollout %v are left", r.Status.Annotations)
			}
			break
		}
	}
	t.Log(steps)
	if len(steps) < 3 || steps[1] != "slow-00001=99 slow-00002=1 " {
		t.Errorf("the steps are %q", steps)
	}
	if moves := len(steps) - 2; len(versions) > moves {
		t.Errorf("%d writes for %d steps", len(versions), moves)
	}
	eventually(t, p, &v1.Service{}, ns, "slow", "the service is ready", isReady)
}

// rolloutFails: a Revision that fails in the middle of its rollout gets no more, and the next one that is ready takes over.
func rolloutFails(t *testing.T, p *platform, ns string) {
	s := p.service(ns, "bad", "app:v1")
	s.Annotations = map[string]string{serving.RolloutDurationAnnotation: "1h"}
	p.create(t, s)
	p.pod(t, ns, "bad-00001", "bad-1", up)
	eventually(t, p, &v1.Service{}, ns, "bad", "ready", isReady)
	update(t, p, &v1.Service{}, ns, "bad", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2" })
	p.pod(t, ns, "bad-00002", "bad-2", up)
	begun := func(s *v1.Service) string {
		if served(s.Status.Traffic) != "bad-00001=99 bad-00002=1 " {
			return "not yet"
		}
		return says(s.Status.Conditions, v1.ConditionReady, unknown, v1.ReasonRolloutInProgress, "")
	}
	eventually(t, p, &v1.Service{}, ns, "bad", "the rollout has begun", begun)

	p.kubelet(t, ns, "bad-2", exited(4, "cannot reach the database"))
	update(t, p, &v1.Service{}, ns, "bad", func(s *v1.Service) { s.Annotations[serving.RolloutDurationAnnotation] = "2h" }) // something looks
	eventually(t, p, &v1.Route{}, ns, "bad", "the rollout stays", func(r *v1.Route) string {
		if served(r.Status.Traffic) != "bad-00001=99 bad-00002=1 " {
			t.Fatalf("traffic is %s", served(r.Status.Traffic))
		}
		return says(r.Status.Conditions, v1.RouteIngressReady, unknown, v1.ReasonRolloutInProgress, "cannot reach the database")
	})
	p.kubelet(t, ns, "bad-2", up)
	eventually(t, p, &v1.Route{}, ns, "bad", "the rollout goes on", func(r *v1.Route) string {
		return says(r.Status.Conditions, v1.RouteIngressReady, unknown, v1.ReasonRolloutInProgress, "in progress")
	})
	eventually(t, p, &v1.Service{}, ns, "bad", "the service says so", begun)

	update(t, p, &v1.Service{}, ns, "bad", func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "NEW", Value: "yes"}}
	})
	p.pod(t, ns, "bad-00003", "bad-3", up)
	eventually(t, p, &v1.Service{}, ns, "bad", "a newer one takes over", func(s *v1.Service) string {
		if served(s.Status.Traffic) != "bad-00001=99 bad-00003=1 " {
			return "not yet"
		}
		return ""
	})
	update(t, p, &v1.Service{}, ns, "bad", func(s *v1.Service) { delete(s.Annotations, serving.RolloutDurationAnnotation) })
	eventually(t, p, &v1.Service{}, ns, "bad", "without a duration it is at its end", func(s *v1.Service) string {
		if served(s.Status.Traffic) != "bad-00003=100 " {
			return "not yet"
		}
		return isReady(s)
	})
}

// deadline: a Revision that does not get ready in time says so, in both spellings of the
// annotation, and the traffic stays with the good one, in the middle of a rollout too.
func deadline(t *testing.T, p *platform, ns string) {
	s := p.service(ns, "late", "app:v1")
	s.Annotations = map[string]string{serving.RolloutDurationAnnotation: "1h"}
	s.Spec.Template.Annotations = map[string]string{"serving.knative.dev/progressDeadline": "33s"}
	p.create(t, s)
	p.pod(t, ns, "late-00001", "late-1", up)
	eventually(t, p, &v1.Service{}, ns, "late", "ready", isReady)
	update(t, p, &v1.Service{}, ns, "late", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2" })
	p.pod(t, ns, "late-00002", "late-2", up)
	const middle = "late-00001=99 late-00002=1 "
	eventually(t, p, &v1.Service{}, ns, "late", "the rollout has begun", func(s *v1.Service) string {
		if served(s.Status.Traffic) != middle {
			return "not yet"
		}
		return ""
	})
	update(t, p, &v1.Service{}, ns, "late", func(s *v1.Service) {
		s.Spec.Template.Annotations[serving.ProgressDeadlineAnnotation] = "44s"
	})
	d := eventually(t, p, &appsv1.Deployment{}, ns, "late-00003-deployment", "the deployment is there", func(*appsv1.Deployment) string { return "" })
	if got := *d.Spec.ProgressDeadlineSeconds; got != 44 {
		t.Errorf("the deadline is %d s", got)
	}
	// As Kubernetes says it once the deadline has passed.
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: no, Reason: v1.ReasonProgressDeadlineExceeded, Message: "has timed out progressing."}}
	if err := p.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	eventually(t, p, &v1.Revision{}, ns, "late-00003", "the revision says so", func(r *v1.Revision) string {
		return says(r.Status.Conditions, v1.ConditionReady, no, v1.ReasonProgressDeadlineExceeded, "timed out")
	})
	eventually(t, p, &v1.Service{}, ns, "late", "the service says so and serves as before", func(s *v1.Service) string {
		if served(s.Status.Traffic) != middle || s.Status.LatestReadyRevisionName != "late-00002" {
			t.Fatalf("traffic %s, latest ready %s", served(s.Status.Traffic), s.Status.LatestReadyRevisionName)
		}
		return says(s.Status.Conditions, v1.ConditionReady, no, v1.ReasonRevisionFailed, "late-00003")
	})
	d = &appsv1.Deployment{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "late-00001-deployment"}, d); err != nil || *d.Spec.ProgressDeadlineSeconds != 33 {
		t.Errorf("the deadline of the first is %d s (%v)", *d.Spec.ProgressDeadlineSeconds, err)
	}
}

// failsLater: a Revision that was ready and fails says so everywhere and keeps the traffic, which nobody else could
// take; the next one that is ready gets it at once.
func failsLater(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "later")
	p.kubelet(t, ns, "later-1", exited(9, "out of memory"))
	failsWith(t, p, ns, "later", v1.ReasonExitCode+"9", "out of memory")
	eventually(t, p, &v1.Service{}, ns, "later", "the traffic stays", func(s *v1.Service) string {
		if served(s.Status.Traffic) != "later-00001=100 " || s.Status.LatestReadyRevisionName != "later-00001" {
			return "traffic " + served(s.Status.Traffic)
		}
		return says(s.Status.Conditions, v1.ServiceRoutesReady, yes, "", "")
	})
	update(t, p, &v1.Service{}, ns, "later", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2" })
	p.pod(t, ns, "later-00002", "later-2", up)
	eventually(t, p, &v1.Service{}, ns, "later", "the second one has it", func(s *v1.Service) string {
		if served(s.Status.Traffic) != "later-00002=100 " {
			return "not yet"
		}
		return isReady(s)
	})
}
