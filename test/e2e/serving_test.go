package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

func TestCreateAndCall(t *testing.T) {
	n := begin(t)
	s := n.Deploy("hello", nil)
	answer := n.MustFetch(t, n.URL("hello", "/"))
	if answer.Revision() != "hello-00001" || answer.Body != "hello-00001 \n" {
		t.Errorf("answer is %s from %q", answer, answer.Revision())
	}
	if got := n.MustFetch(t, s.Status.URL); got.Revision() != "hello-00001" {
		t.Errorf("%s, the URL of the status, answers %s", s.Status.URL, got)
	}
	in, err := n.Fetch(t.Context(), platform.Internal, s.Status.Address.URL)
	if err != nil || in.Revision() != "hello-00001" {
		t.Errorf("%s, the address of the status, answers %s, %v", s.Status.Address.URL, in, err)
	}
	upper := strings.Replace(n.URL("hello", "/"), "hello", "HeLLo", 1)
	if got := n.MustFetch(t, upper); got.Revision() != "hello-00001" {
		t.Errorf("a host in upper case answers %s", got)
	}
	n.AwaitZero("hello")
	n.MustFetch(t, n.URL("hello", "/"))
}

func TestHundredFirstRequestsMakeOneColdStart(t *testing.T) {
	n := begin(t)
	n.Deploy("crowd", func(s *v1.Service) {
		s.Spec.Template.Annotations[serving.TargetAnnotation] = "1000" // one pod is enough for all
	})
	n.AwaitZero("crowd")
	for i, a := range many(t, n, n.URL("crowd", "/"), 100, 100) {
		if a.Revision() != "crowd-00001" {
			t.Errorf("answer %d is %s", i, a)
		}
	}
	pods := n.AwaitReadyPods("crowd", 1)
	answer := n.FetchPod(pods[0], "/counters")
	if !strings.Contains(answer.Body, `"total":100}`) {
		t.Errorf("the pod has counted %s, want a total of 100", answer.Body)
	}
}

func TestInitialScaleZero(t *testing.T) {
	n := begin(t)
	s := n.DeployAtZero("quiet", nil)
	n.AwaitZero("quiet")
	if s.Status.LatestReadyRevisionName != "quiet-00001" {
		t.Errorf("latest ready revision is %q", s.Status.LatestReadyRevisionName)
	}
	if a := n.MustFetch(t, n.URL("quiet", "/")); a.Revision() != "quiet-00001" {
		t.Errorf("answer is %s", a)
	}
	n.AwaitZero("quiet")
}

func TestDeletionLeavesNothingBehind(t *testing.T) {
	n := begin(t)
	s := n.Deploy("gone", nil)
	n.MustFetch(t, n.URL("gone", "/"))
	if err := n.Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, list := range []client.ObjectList{
		&v1.ServiceList{}, &v1.ConfigurationList{}, &v1.RouteList{}, &v1.RevisionList{},
		&appsv1.DeploymentList{}, &appsv1.ReplicaSetList{}, &corev1.PodList{}, &corev1.ServiceList{},
	} {
		_, err := platform.Await(t.Context(), n.Platform, list, func(all []client.Object) error {
			if len(all) > 0 {
				return fmt.Errorf("%T %s is still there", all[0], all[0].GetName())
			}
			return nil
		}, client.InNamespace(n.In))
		if err != nil {
			t.Error(err)
		}
	}
	notFound := func(a platform.Answer) bool { return a.Status == http.StatusNotFound }
	n.AwaitAnswer(t, platform.External, n.URL("gone", "/"), notFound)
	n.AwaitAnswer(t, platform.Internal, n.InternalURL("gone", "/"), notFound)

	n.Deploy("gone", func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "TARGET", Value: "again"}}
	})
	if a := n.MustFetch(t, n.URL("gone", "/")); a.Body != "gone-00001 again\n" {
		t.Errorf("made again under the same name it answers %s", a)
	}
}
