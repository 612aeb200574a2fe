package controllers_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// collected makes five Revisions of a Service, of which two are needed and one asks to stay, and moves garbage collection's clock and settings.
func collected(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "gc")
	for i := 2; i <= 5; i++ {
		update(t, p, &v1.Service{}, ns, "gc", func(s *v1.Service) {
			s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "N", Value: fmt.Sprint(i)}}
			s.Spec.Template.Annotations = nil
			if i == 2 {
				s.Spec.Template.Annotations = map[string]string{serving.NoGCAnnotation: "true"}
			}
			if i == 4 { // the first one is kept by a tag
				s.Spec.Traffic = []v1.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100))}, {RevisionName: "gc-00001", Tag: "first"}}
			}
		})
		revision := fmt.Sprintf("gc-%05d", i)
		p.pod(t, ns, revision, fmt.Sprintf("gc-%d", i), up)
		eventually(t, p, &v1.Service{}, ns, "gc", revision+" is ready", func(s *v1.Service) string {
			if s.Status.LatestReadyRevisionName != revision {
				return "not yet"
			}
			return isReady(s)
		})
	}
	left := func(want string) {
		t.Helper()
		until(t, "the Revisions are "+want, func() error {
			list := &v1.RevisionList{}
			if err := p.List(t.Context(), list, client.InNamespace(ns)); err != nil {
				return err
			}
			var names []string
			for _, r := range list.Items {
				names = append(names, strings.TrimPrefix(r.Name, "gc-0000"))
			}
			if have := strings.Join(names, " "); have != want {
				return errors.New(have)
			}
			return nil
		})
	}
	left("1 2 3 4 5")
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settings.ConfigGC, Namespace: serving.Namespace}}
	set := func(data map[string]string) {
		update(t, p, &corev1.ConfigMap{}, m.Namespace, m.Name, func(m *corev1.ConfigMap) { m.Data = data })
	}
	m.Data = map[string]string{"min-non-active-revisions": "1"}
	p.create(t, m)
	t.Cleanup(func() { p.clock.ahead.Store(0) })
	// Nothing is old enough yet; two days later one more than the least is.
	p.clock.ahead.Store(int64(49 * time.Hour))
	set(map[string]string{"min-non-active-revisions": "1", "max-non-active-revisions": "999"})
	left("1 2 4 5")
	// What a Route lets go of is one more.
	update(t, p, &v1.Service{}, ns, "gc", func(s *v1.Service) { s.Spec.Traffic = nil })
	set(map[string]string{"min-non-active-revisions": "0", "max-non-active-revisions": "0"})
	left("2 5")
	update(t, p, &v1.Revision{}, ns, "gc-00002", func(r *v1.Revision) { delete(r.Annotations, serving.NoGCAnnotation) })
	left("5")
	if err := p.Delete(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}
