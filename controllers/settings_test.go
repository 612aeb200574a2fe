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

// anotherDomain: URLs follow config-domain, and the tags' too.
func anotherDomain(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "moves")
	update(t, p, &v1.Service{}, ns, "moves", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100)), Tag: "now"}}
	})
	at := func(domain string) {
		t.Helper()
		eventually(t, p, &v1.Service{}, ns, "moves", "at "+domain, func(s *v1.Service) string {
			if s.Status.URL != "http://moves."+ns+"."+domain || s.Status.Traffic[0].URL != "http://now-moves."+ns+"."+domain {
				return "not yet"
			}
			if s.Status.Address.URL != "http://moves."+ns+".svc.cluster.local" {
				t.Fatalf("the in-cluster address is %s", s.Status.Address.URL)
			}
			return isReady(s)
		})
	}
	at("example.com")
	domain := func(data map[string]string) {
		t.Helper()
		update(t, p, &corev1.ConfigMap{}, serving.Namespace, settings.ConfigDomain, func(m *corev1.ConfigMap) { m.Data = data })
	}
	domain(map[string]string{"example.org": ""})
	at("example.org")
	domain(map[string]string{"example.org": "", "example.net": "selector:\n  team: a\n"})
	update(t, p, &v1.Service{}, ns, "moves", func(s *v1.Service) { s.Labels = map[string]string{"team": "a"} })
	at("example.net")
	domain(map[string]string{"example.com": ""})
	at("example.com")
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
