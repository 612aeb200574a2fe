package service

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/controllers/apply"
)

// makeConfiguration is the Configuration that the Service should have.
func makeConfiguration(s *v1.Service) *v1.Configuration {
	c := &v1.Configuration{ObjectMeta: childMeta(s), Spec: *s.Spec.ConfigurationSpec.DeepCopy()}
	delete(c.Annotations, serving.RolloutDurationAnnotation)
	delete(c.Annotations, serving.GroupName+"/rolloutDuration")
	return c
}

// makeRoute is the Route that the Service should have: its targets that follow the
// latest revision follow the Service's own Configuration, and with no target at all
// that one takes everything.
func makeRoute(s *v1.Service) *v1.Route {
	r := &v1.Route{ObjectMeta: childMeta(s), Spec: *s.Spec.RouteSpec.DeepCopy()}
	if len(r.Spec.Traffic) == 0 {
		r.Spec.Traffic = []v1.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100))}}
	}
	for i := range r.Spec.Traffic {
		if t := &r.Spec.Traffic[i]; t.RevisionName == "" {
			t.ConfigurationName = s.Name
			t.LatestRevision = new(true)
		}
	}
	return r
}

func childMeta(s *v1.Service) metav1.ObjectMeta {
	labels := map[string]string{}
	maps.Copy(labels, s.Labels)
	labels[serving.ServiceLabel] = s.Name
	labels[serving.ServiceUIDLabel] = string(s.UID)
	annotations := map[string]string{}
	maps.Copy(annotations, s.Annotations)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, apply.HashAnnotation)
	delete(annotations, serving.PausedAnnotation)
	return metav1.ObjectMeta{
		Name: s.Name, Namespace: s.Namespace, Labels: labels, Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s, v1.GroupVersion.WithKind(v1.KindService))},
	}
}
