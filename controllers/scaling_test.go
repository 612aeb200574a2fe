package controllers_test

import (
	"errors"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// class: a Revision's class changes there and back, by the Service and by the Revision itself.
func class(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "hpa")
	hpa := func() (*autoscalingv2.HorizontalPodAutoscaler, error) {
		have := &autoscalingv2.HorizontalPodAutoscaler{}
		return have, p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "hpa-00001"}, have)
	}
	none := func() error {
		if _, err := hpa(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there (%w)", errors.Join(err))
		}
		return nil
	}
	until(t, "the standard class has no HorizontalPodAutoscaler", none)
	// At zero, which Kubernetes does not leave by itself.
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "hpa-00001-deployment"}}
	if err := p.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":0}}`)), client.FieldOwner("ebb-autoscaler")); err != nil {
		t.Fatal(err)
	}
	update(t, p, &v1.Service{}, ns, "hpa", func(s *v1.Service) {
		s.Annotations = map[string]string{serving.ClassAnnotation: serving.ClassHPA, serving.TargetAnnotation: "50", serving.MaxScaleAnnotation: "4"}
	})
	until(t, "it is there", func() error {
		have, err := hpa()
		if err != nil {
			return err
		}
		if have.Spec.MaxReplicas != 4 || *have.Spec.MinReplicas != 1 || *have.Spec.Metrics[0].Resource.Target.AverageUtilization != 50 || !metav1.IsControlledBy(have, revisionOf(t, p, ns, "hpa-00001")) {
			return fmt.Errorf("it is %+v", have.Spec)
		}
		return nil
	})
	eventually(t, p, &appsv1.Deployment{}, ns, "hpa-00001-deployment", "it has a pod", func(d *appsv1.Deployment) string {
		if *d.Spec.Replicas != 1 {
			return "not yet"
		}
		return ""
	})
	update(t, p, &v1.Revision{}, ns, "hpa-00001", func(r *v1.Revision) { r.Annotations[serving.MinScaleAnnotation] = "2" })
	until(t, "the Revision's own annotation counts", func() error {
		have, err := hpa()
		if err == nil && *have.Spec.MinReplicas != 2 {
			err = fmt.Errorf("it is %+v", have.Spec)
		}
		return err
	})
	update(t, p, &v1.Service{}, ns, "hpa", func(s *v1.Service) { s.Annotations[serving.ClassAnnotation] = serving.ClassKPA })
	until(t, "back at the standard class it is gone", none)
	update(t, p, &v1.Revision{}, ns, "hpa-00001", func(r *v1.Revision) { r.Annotations[serving.ClassAnnotation] = serving.ClassHPA })
	until(t, "and back again", func() error { _, err := hpa(); return err })
	if d := (&v1.RevisionList{}); p.List(t.Context(), d, client.InNamespace(ns)) != nil || len(d.Items) != 1 {
		t.Errorf("%d revisions", len(d.Items))
	}
}

func revisionOf(t *testing.T, p *platform, ns, name string) *v1.Revision {
	t.Helper()
	rev := &v1.Revision{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, rev); err != nil {
		t.Fatal(err)
	}
	return rev
}

// inherited: a Revision begins with the pods that its Service asks for, and keeps the annotations of its template apart.
func inherited(t *testing.T, p *platform, ns string) {
	s := p.service(ns, "three", "app:v1")
	s.Annotations = map[string]string{serving.InitialScaleAnnotation: "3"}
	s.Spec.Template.Annotations = map[string]string{serving.InitialScaleAnnotation: "2"}
	p.create(t, s)
	d := eventually(t, p, &appsv1.Deployment{}, ns, "three-00001-deployment", "the deployment is there", func(*appsv1.Deployment) string { return "" })
	if *d.Spec.Replicas != 3 {
		t.Errorf("it begins with %d pods", *d.Spec.Replicas)
	}
	for i := range 3 {
		p.pod(t, ns, "three-00001", fmt.Sprint("three-", i), up)
	}
	eventually(t, p, &v1.Service{}, ns, "three", "ready with three pods", isReady)
	before := revisionOf(t, p, ns, "three-00001")
	if before.Annotations[serving.InitialScaleAnnotation] != "2" || before.Annotations[serving.TemplateScalingAnnotation] == "" {
		t.Errorf("the revision has %v", before.Annotations)
	}
	// Other annotations of the Service reach nothing that runs.
	update(t, p, &v1.Service{}, ns, "three", func(s *v1.Service) { s.Annotations[serving.MinScaleAnnotation] = "1" })
	eventually(t, p, &v1.Configuration{}, ns, "three", "the configuration has it", func(c *v1.Configuration) string {
		if c.Annotations[serving.MinScaleAnnotation] != "1" {
			return "not yet"
		}
		return ""
	})
	after := &appsv1.Deployment{}
	if err := p.Get(t.Context(), client.ObjectKeyFromObject(d), after); err != nil || after.Generation != d.Generation {
		t.Errorf("the deployment is at generation %d, %v", after.Generation, err)
	}
	if rev := revisionOf(t, p, ns, "three-00001"); rev.Generation != before.Generation || rev.Annotations[serving.MinScaleAnnotation] != "" {
		t.Errorf("the revision was changed: %v", rev.Annotations)
	}
}
