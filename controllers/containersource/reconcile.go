package containersource

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing/duck"
	serving "ebb.dev/ebb/apis/serving/v1"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	sinks "ebb.dev/ebb/controllers/source"
)

const (
	manager = "ebb-containersource"
	bySink  = "ebb.containersource.sink"
)

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager, resolver *sink.Resolver) error {
	r := &reconciler{Client: mgr.GetClient(), live: mgr.GetAPIReader(), sinks: resolver, now: time.Now}
	b := ctrl.NewControllerManagedBy(mgr).Named("containersource").For(&sourcesv1.ContainerSource{}).Owns(&appsv1.Deployment{})
	b, err := sinks.Watch(mgr, b, bySink, &sourcesv1.ContainerSource{}, func() client.ObjectList { return &sourcesv1.ContainerSourceList{} },
		func(o client.Object) *duck.SourceSpec { return &o.(*sourcesv1.ContainerSource).Spec.SourceSpec },
		func(list client.ObjectList) (keys []client.ObjectKey) {
			for i := range list.(*sourcesv1.ContainerSourceList).Items {
				keys = append(keys, client.ObjectKeyFromObject(&list.(*sourcesv1.ContainerSourceList).Items[i]))
			}
			return keys
		})
	if err != nil {
		return err
	}
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the containersource controller: %w", err)
	}
	return nil
}

type reconciler struct {
	client.Client
	live  client.Reader
	sinks *sink.Resolver
	now   func() time.Time
}

// Reconcile brings one ContainerSource's Deployment and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &sourcesv1.ContainerSource{}
	err := r.Get(ctx, req.NamespacedName, o)
	if apierrors.IsNotFound(err) || err == nil && o.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // its Deployment goes with it
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	next := o.DeepCopy()
	again, workErr := r.work(ctx, o, next)
	_, err = apply.Status(ctx, r.Client, manager, next, o)
	return ctrl.Result{RequeueAfter: again}, errors.Join(workErr, client.IgnoreNotFound(err))
}

func (r *reconciler) work(ctx context.Context, o, next *sourcesv1.ContainerSource) (time.Duration, error) {
	now, status := r.now(), &next.Status
	status.ObservedGeneration = o.Generation
	conditions := &status.Conditions
	defer func() { conditions.Aggregate(sourcesv1.ContainerSourceDependents(), now) }()
	a, again, err := sinks.Resolve(ctx, r.sinks, &o.Spec.SourceSpec, &status.SourceStatus, o.Namespace, now)
	if err != nil {
		return again, err
	}
	if a.URL == "" {
		conditions.SetUnknown(sourcesv1.ReceiveAdapterReady, sourcesv1.ReasonNotAvailable, "Nothing runs before there is a sink.", now)
		return again, nil
	}
	want, seen := deployment(o, a), &appsv1.Deployment{}
	place, err := apply.Read(ctx, r.Client, r.live, client.ObjectKeyFromObject(want), seen)
	if err != nil {
		return again, err
	}
	if place != apply.Nowhere && !metav1.IsControlledBy(seen, o) {
		conditions.SetFalse(sourcesv1.ReceiveAdapterReady, sourcesv1.ReasonRefused, "Deployment "+want.Name+" belongs to another.", now)
		return again, nil
	}
	if place == apply.Nowhere {
		seen = nil
	}
	if _, err := apply.Object(ctx, r.Client, manager, want, seen); apply.Refused(err) {
		conditions.SetFalse(sourcesv1.ReceiveAdapterReady, sourcesv1.ReasonRefused, sink.Sentence(err.Error()), now)
		return again, nil
	} else if err != nil {
		return again, err
	}
	conditions.Set(available(want.Name, seen), now)
	return again, nil
}

// Labels of what a ContainerSource makes.
const (
	SourceLabel  = "sources.knative.dev/source"
	NameLabel    = "sources.knative.dev/containerSource"
	sourceOfKind = "container-source-controller"
)

// deployment runs the template with the address of the sink in each container.
func deployment(o *sourcesv1.ContainerSource, a sink.Address) *appsv1.Deployment {
	labels := map[string]string{SourceLabel: sourceOfKind, NameLabel: o.Name}
	template := *o.Spec.Template.DeepCopy()
	template.Name, template.Namespace = "", ""
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	for k, v := range labels {
		template.Labels[k] = v
	}
	env := sinks.Env(a, o.Spec.CloudEventOverrides)
	for i := range template.Spec.InitContainers {
		template.Spec.InitContainers[i].Env = sinks.With(template.Spec.InitContainers[i].Env, env)
	}
	for i := range template.Spec.Containers {
		template.Spec.Containers[i].Env = sinks.With(template.Spec.Containers[i].Env, env)
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.Namespace, Name: name(o.Name), Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(o, sourcesv1.GroupVersion.WithKind(sourcesv1.KindContainerSource))},
		},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}
}

// name of the Deployment; the names of its pods are bounded by the API server itself.
func name(source string) string { return source + "-deployment" }

func available(name string, seen *appsv1.Deployment) serving.Condition {
	c := serving.Condition{Type: sourcesv1.ReceiveAdapterReady, Status: corev1.ConditionUnknown, Reason: sourcesv1.ReasonNotAvailable, Message: "Deployment " + name + " starts."}
	if seen == nil || seen.Status.ObservedGeneration < seen.Generation {
		return c
	}
	for _, have := range seen.Status.Conditions {
		if have.Type != appsv1.DeploymentAvailable {
			continue
		}
		c.Status = have.Status
		if c.Status == corev1.ConditionTrue {
			c.Reason, c.Message = "", ""
		} else {
			c.Message = "Deployment " + name + ": " + have.Message
		}
	}
	return c
}
