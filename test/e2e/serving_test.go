package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// TestDeletionLeavesNothingBehind: of no kind that the API server has, whatever way it is deleted.
func TestDeletionLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]metav1.DeletionPropagation{
		"background": metav1.DeletePropagationBackground, "foreground": metav1.DeletePropagationForeground,
	} {
		t.Run(name, func(t *testing.T) {
			n := begin(t)
			s := n.Deploy("gone", nil)
			n.MustFetch(t, n.URL("gone", "/"))
			if made := inventory(t, n); len(made) < 8 {
				t.Fatalf("of a Service with a pod the inventory sees only %v", made)
			}
			if err := n.Delete(t.Context(), s, client.PropagationPolicy(policy)); err != nil {
				t.Fatal(err)
			}
			// The owners go last in the foreground and first in the background, so all are waited for.
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
			if left := inventory(t, n); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			notFound := func(a platform.Answer) bool { return a.Status == http.StatusNotFound }
			n.AwaitAnswer(t, platform.External, n.URL("gone", "/"), notFound)
			n.AwaitAnswer(t, platform.Internal, n.InternalURL("gone", "/"), notFound)

			n.Deploy("gone", says("again"))
			if a := n.MustFetch(t, n.URL("gone", "/")); a.Body != "gone-00001 again\n" {
				t.Errorf("made again under the same name it answers %s", a)
			}
		})
	}
}

// inventory lists the objects of every kind in the namespace, but for events and what
// every namespace has.
func inventory(t *testing.T, n *platform.Namespace) []string {
	t.Helper()
	out, errOut, err := n.Command(t.Context(), "", "kubectl", "api-resources", "--namespaced", "--verbs=list", "-o", "name")
	if err != nil {
		t.Fatalf("%v: %s", err, errOut)
	}
	kinds := slices.DeleteFunc(strings.Fields(out), func(kind string) bool { return strings.HasPrefix(kind, "events") })
	found := strings.Fields(command(t, n, "kubectl", "get", strings.Join(kinds, ","), "-o", "name", "--ignore-not-found"))
	return slices.DeleteFunc(found, func(name string) bool {
		return name == "serviceaccount/default" || name == "configmap/kube-root-ca.crt"
	})
}

// TestMadeAgainAtOnce: a Service that is deleted and made again under its name meets the
// children of the old one, which are not gone yet, and waits for their end.
func TestMadeAgainAtOnce(t *testing.T) {
	n := begin(t)
	s := n.Deploy("again", says("0"))
	for i := range 4 {
		if err := n.Delete(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		word := fmt.Sprint(i + 1)
		s = n.Deploy("again", says(word))
		if a := n.MustFetch(t, n.URL("again", "/")); a.Body != "again-00001 "+word+"\n" {
			t.Fatalf("made again it answers %s, want %s", a, word)
		}
	}
}
