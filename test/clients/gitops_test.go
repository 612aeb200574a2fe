package clients

import (
	"errors"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestHealth: the rules by which GitOps controllers call an object healthy (kstatus) find all
// of ours current once they are ready, the one that cannot be in progress, and one that changes
// never current with the state of what it was before.
func TestHealth(t *testing.T) {
	p := shared.Platform(t)
	ns := p.Namespace(t)
	image := p.Image(t, "examples/hello")
	read := func(kind, name string) *unstructured.Unstructured {
		t.Helper()
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(v1.GroupVersion.WithKind(kind))
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns.In, Name: name}, u); err != nil {
			t.Fatal(err)
		}
		return u
	}
	is := func(kind, name string, want status.Status) {
		t.Helper()
		got, err := status.Compute(read(kind, name))
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != want {
			t.Errorf("%s %s is %s (%s), want %s", kind, name, got.Status, got.Message, want)
		}
	}
	template := func(image string) func(*v1.Service) {
		return func(s *v1.Service) {
			s.Spec.Template.Annotations = map[string]string{serving.InitialScaleAnnotation: "0"}
			s.Spec.Template.Spec.Containers = []corev1.Container{{Image: image}}
		}
	}

	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ns.Service("good", template(image)))
	if err != nil {
		t.Fatal(err)
	}
	made := &unstructured.Unstructured{Object: content}
	made.SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindService))
	if err := p.Create(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if got, err := status.Compute(made); err != nil || got.Status != status.InProgressStatus {
		t.Errorf("a Service that nobody has looked at is %+v (%v)", got, err)
	}
	ns.AwaitReady("good")
	for _, kind := range []string{"Service", "Configuration", "Route"} {
		is(kind, "good", status.CurrentStatus)
	}
	is("Revision", "good-00001", status.CurrentStatus)

	bad := ns.Service("bad", template(missing(image)))
	if err := p.Create(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	ns.AwaitService("bad", func(s *v1.Service) error {
		if ready := s.Status.Conditions.Get(v1.ConditionReady); s.Status.ObservedGeneration != s.Generation || !ready.IsFalse() {
			return errors.New("not seen to be bad yet: " + platform.Describe(s.Status.Conditions))
		}
		return nil
	})
	is("Service", "bad", status.InProgressStatus)

	changed := ns.Change("good", func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "TARGET", Value: "two"}}
	})
	ns.AwaitService("good", func(s *v1.Service) error {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := status.Compute(&unstructured.Unstructured{Object: content})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != status.CurrentStatus || s.Generation < changed.Generation {
			return errors.New(got.Message)
		}
		if s.Status.LatestReadyRevisionName != "good-00002" {
			t.Errorf("current with %s, before the change has taken effect", s.Status.LatestReadyRevisionName)
		}
		return nil
	})
}
