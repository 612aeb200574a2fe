package controllers_test

import (
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// settingsChange sets the progress deadline of every Deployment, which no other test reads by default.
func settingsChange(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "set")
	deadline := func(seconds int32) {
		t.Helper()
		eventually(t, p, &appsv1.Deployment{}, ns, "set-00001-deployment", "the setting has arrived", func(d *appsv1.Deployment) string {
			if *d.Spec.ProgressDeadlineSeconds != seconds {
				return "not yet"
			}
			return ""
		})
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settings.ConfigDeployment, Namespace: serving.Namespace}, Data: map[string]string{"progress-deadline": "123s"}}
	p.create(t, m)
	deadline(123)
	update(t, p, m, m.Namespace, m.Name, func(m *corev1.ConfigMap) { m.Data["progress-deadline"] = "soon" })
	until(t, "the bad value has an event", func() error {
		list := &eventsv1.EventList{}
		if err := p.List(t.Context(), list, client.InNamespace(serving.Namespace)); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "InvalidSettings" && strings.Contains(e.Note, "progress-deadline") {
				return nil
			}
		}
		return errors.New("no event yet")
	})
	deadline(123)
	if err := p.Delete(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	deadline(600)
}

func initialZero(t *testing.T, p *platform, ns string) {
	p.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settings.ConfigAutoscaler, Namespace: serving.Namespace}, Data: map[string]string{"allow-zero-initial-scale": "true"}})
	until(t, "zero is allowed", func() error {
		if !p.store.Load().Autoscaler.AllowZeroInitialScale {
			return errors.New("not yet")
		}
		return nil
	})
	s := p.service(ns, "nothing", "app:v1")
	s.Spec.Template.Annotations = map[string]string{serving.InitialScaleAnnotation: "0"}
	p.create(t, s)
	eventually(t, p, &v1.Service{}, ns, "nothing", "ready with no pod", isReady)
	d := &appsv1.Deployment{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "nothing-00001-deployment"}, d); err != nil || *d.Spec.Replicas != 0 {
		t.Fatalf("replicas %v (%v)", d.Spec.Replicas, err)
	}
}
