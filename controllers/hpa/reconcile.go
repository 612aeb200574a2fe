package hpa

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	watch "ebb.dev/ebb/controllers/settings"
)

const manager = "ebb-hpa"

// Options of the controller.
type Options struct {
	// Settings of the platform. Required.
	Settings *settings.Store
	// Workers is the number of Revisions worked on at the same time; 0 means 2.
	Workers int
}

type reconciler struct {
	client.Client
	live     client.Reader // the API server itself, past the cache
	events   events.EventRecorder
	settings *settings.Store
}

// Add puts the controller into mgr. It does not block; the controller runs with mgr.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Settings == nil {
		return fmt.Errorf("add the hpa controller: Options.Settings is required")
	}
	if opts.Workers == 0 {
		opts.Workers = 2
	}
	r := &reconciler{Client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("ebb-hpa"), settings: opts.Settings}
	scaling := builder.WithPredicates(predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return v1.HasScaling(e.Object.GetAnnotations()) },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return !v1.SameScaling(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations())
		},
	})
	err := ctrl.NewControllerManagedBy(mgr).
		Named("hpa").
		For(&v1.Revision{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Owns(&autoscalingv2.HorizontalPodAutoscaler{}).
		// When it comes: there is something to scale. What it does afterwards is the autoscaler's.
		Watches(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(revisionOf), builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(event.UpdateEvent) bool { return false },
		})).
		Watches(&v1.Service{}, handler.EnqueueRequestsFromMapFunc(r.madeFor(serving.ServiceLabel)), scaling).
		Watches(&v1.Configuration{}, handler.EnqueueRequestsFromMapFunc(r.madeFor(serving.ConfigurationLabel)), scaling).
		WatchesRawSource(watch.Source(opts.Settings, func(ctx context.Context) ([]reconcile.Request, error) { return r.revisions(ctx), nil })).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers}).
		Complete(apply.UnlessLeaving(r))
	if err != nil {
		return fmt.Errorf("add the hpa controller: %w", err)
	}
	return nil
}

func revisionOf(_ context.Context, d client.Object) []reconcile.Request {
	revision, ok := strings.CutSuffix(d.GetName(), deploymentName(""))
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: d.GetNamespace(), Name: revision}}}
}

// madeFor maps a Service or Configuration to the Revisions with its label.
func (r *reconciler) madeFor(label string) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		return r.revisions(ctx, client.InNamespace(o.GetNamespace()), client.MatchingLabels{label: o.GetName()})
	}
}

func (r *reconciler) revisions(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	list := &v1.RevisionList{}
	if err := r.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "revisions whose settings may have changed could not be listed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// Reconcile makes, changes or deletes the HorizontalPodAutoscaler of one Revision.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	rev := &v1.Revision{}
	if err := r.Get(ctx, req.NamespacedName, rev); err != nil || !rev.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	layers, err := v1.ReadScalingLayers(rev, func(name string, into metav1.Object) error {
		return r.Get(ctx, types.NamespacedName{Namespace: rev.Namespace, Name: name}, into.(client.Object))
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	limit := int64(0)
	if rev.Spec.ContainerConcurrency != nil {
		limit = *rev.Spec.ContainerConcurrency
	}
	a, _ := settings.ParseAutoscaling(r.settings.Load().Autoscaler, limit, settings.Annotations(layers...)...)
	if a.Class != serving.ClassHPA {
		return ctrl.Result{}, r.remove(ctx, rev)
	}
	d := &appsv1.Deployment{}
	if err := r.Get(ctx, types.NamespacedName{Namespace: rev.Namespace, Name: deploymentName(rev.Name)}, d); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // it wakes this when it comes
	}
	_, windowed := settings.Annotation(serving.WindowAnnotation, layers...)
	want := makeHPA(rev, a, windowed)
	if err := r.wake(ctx, rev, d, *want.Spec.MinReplicas); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.apply(ctx, rev, want)
}

func (r *reconciler) apply(ctx context.Context, rev *v1.Revision, want *autoscalingv2.HorizontalPodAutoscaler) error {
	seen := &autoscalingv2.HorizontalPodAutoscaler{}
	place, err := apply.Read(ctx, r, r.live, client.ObjectKeyFromObject(want), seen)
	switch {
	case err != nil:
	case place == apply.Nowhere:
		_, err = apply.Object(ctx, r.Client, manager, want, nil)
	case metav1.IsControlledBy(seen, rev):
		_, err = apply.Object(ctx, r.Client, manager, want, seen)
	default:
		r.events.Eventf(rev, seen, corev1.EventTypeWarning, v1.ReasonNotOwned, "ScaleRevision",
			"A HorizontalPodAutoscaler named %q exists and does not belong to this Revision: nothing scales it until that is deleted", want.Name)
		return fmt.Errorf("revision %s/%s: the HorizontalPodAutoscaler of its name belongs to another", rev.Namespace, rev.Name)
	}
	return err
}

// wake gives a Revision that has no pods its least number: Kubernetes does not scale what
// is at zero.
func (r *reconciler) wake(ctx context.Context, rev *v1.Revision, d *appsv1.Deployment, least int32) error {
	if !metav1.IsControlledBy(d, rev) || d.Spec.Replicas == nil || *d.Spec.Replicas > 0 {
		return nil
	}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, least))
	target := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name}}
	if err := r.SubResource("scale").Patch(ctx, target, patch, client.FieldOwner(manager), client.WithSubResourceBody(&autoscalingv1.Scale{})); err != nil {
		return fmt.Errorf("deployment %s/%s: scale from zero to %d: %w", d.Namespace, d.Name, least, err)
	}
	return nil
}

// remove deletes what a Revision of another class has from before.
func (r *reconciler) remove(ctx context.Context, rev *v1.Revision) error {
	old := &autoscalingv2.HorizontalPodAutoscaler{}
	err := r.Get(ctx, client.ObjectKeyFromObject(rev), old)
	if apierrors.IsNotFound(err) || err == nil && !metav1.IsControlledBy(old, rev) {
		return nil
	}
	if err == nil {
		err = client.IgnoreNotFound(r.Delete(ctx, old, client.Preconditions{UID: &old.UID}))
	}
	if err != nil {
		return fmt.Errorf("revision %s/%s: remove its HorizontalPodAutoscaler: %w", rev.Namespace, rev.Name, err)
	}
	return nil
}
