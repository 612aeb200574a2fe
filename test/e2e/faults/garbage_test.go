package faults

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/test/e2e/platform"
)

// config-gc changes while traffic flows: old revisions go with their pods, at once, and the routed ones and those with no-gc stay; the routed serve.
func TestGarbageUnderLoad(t *testing.T) {
	w := newWorld(t)
	w.Deploy("web", quick("target", "100"))
	for i := range 3 {
		w.Change("web", func(s *v1.Service) {
			s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "TARGET", Value: fmt.Sprint(i)}}
		})
		w.AwaitReady("web")
	}
	w.mergePatch(t, &v1.Revision{ObjectMeta: metav1.ObjectMeta{Namespace: w.In, Name: "web-00002"}}, `{"metadata":{"annotations":{"`+serving.NoGCAnnotation+`":"true"}}}`)
	load := w.rate(t, "web", "/", 100)
	w.await(t, load, 100)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settings.ConfigGC, Namespace: serving.Namespace},
		Data: map[string]string{"min-non-active-revisions": "0", "max-non-active-revisions": "0"}}
	if err := w.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Delete(context.Background(), m); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), platform.Deadline)
	defer cancel()
	_, err := platform.Await(ctx, w.Platform, &v1.RevisionList{}, func(all []*v1.Revision) error {
		var left []string
		for _, r := range all {
			left = append(left, r.Name)
		}
		if slices.Sort(left); !slices.Equal(left, []string{"web-00002", "web-00004"}) {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	}, client.InNamespace(w.In))
	if err != nil {
		t.Fatal(err)
	}
	w.await(t, load, 100)
	load.stopClean(t)
}
