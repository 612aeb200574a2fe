package user

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// warningsAtMost bounds the events read; the newest are not first, so it is generous.
const warningsAtMost = 5000

// gather reads what findCause looks at. What is not there, or not allowed, is left out.
func (s *Session) gather(ctx context.Context, svc *v1.Service, revisions []v1.Revision) (*evidence, error) {
	e := &evidence{service: svc, revisions: revisions}
	key := client.ObjectKeyFromObject(svc)
	configuration, route := &v1.Configuration{}, &v1.Route{}
	var pods corev1.PodList
	var deployments *appsv1.DeploymentList
	var events *corev1.EventList
	for _, read := range []struct {
		what string
		do   func() error
	}{
		{"configuration " + key.Name, func() error {
			err := s.Get(ctx, key, configuration)
			if err == nil {
				e.configuration = configuration
			}
			return err
		}},
		{"route " + key.Name, func() error {
			err := s.Get(ctx, key, route)
			if err == nil {
				e.route = route
			}
			return err
		}},
		{"pods", func() error { return s.List(ctx, &pods, client.InNamespace(svc.Namespace), ofService(svc.Name)) }},
		{"deployments", func() (err error) {
			deployments, err = s.Pods.AppsV1().Deployments(svc.Namespace).List(ctx, metav1.ListOptions{LabelSelector: serving.ServiceLabel + "=" + svc.Name})
			return err
		}},
		{"events", func() (err error) {
			events, err = s.Pods.CoreV1().Events(svc.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning", Limit: warningsAtMost})
			return err
		}},
	} {
		if err := read.do(); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
			return nil, s.explain(err, read.what)
		}
	}
	e.pods = pods.Items
	if deployments != nil {
		e.deployments = deployments.Items
	}
	if events != nil {
		e.events = events.Items
	}
	return e, nil
}
