package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// onlyOf says that there are pods and all are of one revision.
func onlyOf(pods []*corev1.Pod, revision string) error {
	if len(pods) == 0 {
		return errors.New("there are none")
	}
	for _, p := range pods {
		if have := p.Labels[serving.RevisionLabel]; have != revision {
			return fmt.Errorf("%s is of %s", p.Name, have)
		}
	}
	return nil
}

// TestFailuresShowTheirMessage: what a container says reaches the Service, of a first
// revision and of a later one, and traffic stays with what was good.
func TestFailuresShowTheirMessage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*platform.Namespace, *v1.Service)
		reason string
		words  []string // in the message
	}{
		"no-image": {
			change: func(n *platform.Namespace, s *v1.Service) {
				s.Spec.Template.Spec.Containers[0].Image = n.Running().Registry + "/nobody/has:this"
			},
			reason: v1.ReasonContainerMissing, words: []string{"/nobody/has:this"},
		},
		"exits": {
			change: func(_ *platform.Namespace, s *v1.Service) {
				s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "FAIL_AT_START", Value: "the database is on fire"}}
			},
			reason: v1.ReasonExitCode + "1", words: []string{"the database is on fire"},
		},
		"never-ready": {
			change: func(_ *platform.Namespace, s *v1.Service) {
				s.Spec.Template.Annotations[serving.ProgressDeadlineAnnotation] = "5s"
				s.Spec.Template.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
					HTTPGet: &corev1.HTTPGetAction{Path: "/status?code=503", Port: intstr.FromInt32(0)},
				}}
			},
			reason: v1.ReasonProgressDeadlineExceeded, words: []string{"503"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := begin(t)
			failed := func(s *v1.Service) error {
				ready := s.Status.Conditions.Get(v1.ConditionReady)
				switch {
				case s.Status.ObservedGeneration != s.Generation || !ready.IsFalse():
					return fmt.Errorf("not failed: %s", platform.Describe(s.Status.Conditions))
				}
				for _, word := range test.words {
					if !strings.Contains(ready.Message, word) {
						return fmt.Errorf("the message does not say %q: %s", word, platform.Describe(s.Status.Conditions))
					}
				}
				return nil
			}
			began := time.Now()
			bad := n.Service("bad", func(s *v1.Service) { test.change(n, s) })
			if err := n.Create(t.Context(), bad); err != nil {
				t.Fatal(err)
			}
			n.Deploy("good", says("good"))
			s := n.AwaitService("bad", failed)
			t.Logf("shown after %s: %s", time.Since(began).Round(time.Millisecond), platform.Describe(s.Status.Conditions))
			if s.Status.LatestReadyRevisionName != "" {
				t.Errorf("%s is called ready", s.Status.LatestReadyRevisionName)
			}

			n.Change("good", func(s *v1.Service) { test.change(n, s) })
			s = n.AwaitService("good", failed)
			if s.Status.LatestReadyRevisionName != "good-00001" || s.Status.LatestCreatedRevisionName != "good-00002" {
				t.Errorf("latest ready is %q and latest created %q", s.Status.LatestReadyRevisionName, s.Status.LatestCreatedRevisionName)
			}
			if routes := s.Status.Conditions.Get(v1.ServiceRoutesReady); !routes.IsTrue() {
				t.Errorf("the good revision serves, but the conditions are %s", platform.Describe(s.Status.Conditions))
			}
			if a := n.MustFetch(t, n.URL("good", "/")); a.Body != "good-00001 good\n" {
				t.Errorf("traffic went to %s", a)
			}
			var r v1.Revision
			if err := n.WithWatch.Get(t.Context(), key(n, "good-00002"), &r); err != nil {
				t.Fatal(err)
			}
			if ready := r.Status.Conditions.Get(v1.ConditionReady); ready == nil || ready.Reason != test.reason {
				t.Errorf("the revision's Ready has another reason than %s: %s", test.reason, platform.Describe(r.Status.Conditions))
			}

			// A correction is all that is needed.
			n.Change("good", func(s *v1.Service) {
				n.Service("good", says("better")).Spec.DeepCopyInto(&s.Spec)
			})
			n.AwaitReady("good")
			if a := n.MustFetch(t, n.URL("good", "/")); a.Body != "good-00003 better\n" {
				t.Errorf("after the correction it answers %s", a)
			}
		})
	}
}

// TestRevisionDeletedIsMadeAgain: the latest Revision, deleted by hand with its pods, is made anew of the same template.
func TestRevisionDeletedIsMadeAgain(t *testing.T) {
	n := begin(t)
	n.Deploy("web", says("one"))
	var old v1.Revision
	if err := n.WithWatch.Get(t.Context(), key(n, "web-00001"), &old); err != nil {
		t.Fatal(err)
	}
	if err := n.Delete(t.Context(), old.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	awaitRevision(n, "web-00001", func(r *v1.Revision) error {
		if r.UID == old.UID {
			return errors.New("it is still the old one")
		}
		return platform.Ready(r.Generation, r.Status.Status)
	})
	n.AwaitAnswer(t, platform.External, n.URL("web", "/"), func(a platform.Answer) bool { return a.Body == "web-00001 one\n" })
	if s := n.AwaitReady("web"); s.Status.LatestReadyRevisionName != "web-00001" || s.Generation != 1 {
		t.Errorf("the Service has %+v", s.Status)
	}
}
