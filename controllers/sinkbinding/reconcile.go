package sinkbinding

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	sinks "ebb.dev/ebb/controllers/source"
	"ebb.dev/ebb/controllers/topic"
)

const (
	manager = "ebb-sinkbinding"
	bySink  = "ebb.sinkbinding.sink"
)

// Options of the controller.
type Options struct {
	// Sinks finds addresses. Required.
	Sinks *sink.Resolver
	// LookAgain is how often subjects are looked at; 0 means every 15 seconds.
	LookAgain time.Duration
}

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Sinks == nil {
		return fmt.Errorf("add the sinkbinding controller: Options.Sinks is required")
	}
	if opts.LookAgain == 0 {
		opts.LookAgain = 15 * time.Second
	}
	r := &reconciler{Client: mgr.GetClient(), live: mgr.GetAPIReader(), sinks: opts.Sinks, lookAgain: opts.LookAgain, now: time.Now}
	b := ctrl.NewControllerManagedBy(mgr).Named("sinkbinding").For(&sourcesv1.SinkBinding{})
	b, err := sinks.Watch(mgr, b, bySink, &sourcesv1.SinkBinding{}, func() client.ObjectList { return &sourcesv1.SinkBindingList{} },
		func(o client.Object) *duck.SourceSpec { return &o.(*sourcesv1.SinkBinding).Spec.SourceSpec },
		func(list client.ObjectList) (keys []client.ObjectKey) {
			for i := range list.(*sourcesv1.SinkBindingList).Items {
				keys = append(keys, client.ObjectKeyFromObject(&list.(*sourcesv1.SinkBindingList).Items[i]))
			}
			return keys
		})
	if err != nil {
		return err
	}
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the sinkbinding controller: %w", err)
	}
	return nil
}

type reconciler struct {
	client.Client
	live      client.Reader
	sinks     *sink.Resolver
	lookAgain time.Duration
	now       func() time.Time
}

// Reconcile brings the subjects and the status of one SinkBinding up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &sourcesv1.SinkBinding{}
	if err := r.Get(ctx, req.NamespacedName, o); apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	if o.DeletionTimestamp != nil {
		if !controllerutil.ContainsFinalizer(o, eventing.Finalizer) {
			return ctrl.Result{}, nil
		}
		if _, _, err := r.bindAll(ctx, o, nil); err != nil {
			return ctrl.Result{}, fmt.Errorf("SinkBinding %s/%s: take the address back: %w", o.Namespace, o.Name, err)
		}
		return ctrl.Result{}, topic.Release(ctx, r.Client, o)
	}
	next := o.DeepCopy()
	workErr := r.work(ctx, o, next)
	_, err := apply.Status(ctx, r.Client, manager, next, o)
	return ctrl.Result{RequeueAfter: r.lookAgain}, errors.Join(workErr, client.IgnoreNotFound(err))
}

func (r *reconciler) work(ctx context.Context, o, next *sourcesv1.SinkBinding) error {
	now, status := r.now(), &next.Status
	status.ObservedGeneration = o.Generation
	conditions := &status.Conditions
	defer func() { conditions.Aggregate(sourcesv1.SinkBindingDependents(), now) }()
	a, _, err := sinks.Resolve(ctx, r.sinks, &o.Spec.SourceSpec, &status.SourceStatus, o.Namespace, now)
	if err != nil {
		return err
	}
	if a.URL == "" {
		conditions.SetUnknown(sourcesv1.Available, sourcesv1.ReasonSubjectMissing, "The subject gets no address before there is a sink.", now)
		return nil
	}
	if err := topic.Hold(ctx, r.Client, next); err != nil {
		return err
	}
	count, refused, err := r.bindAll(ctx, o, sinks.Env(a, o.Spec.CloudEventOverrides))
	what := fmt.Sprintf("%s of %s in namespace %s", o.Spec.Subject.Kind, o.Spec.Subject.APIVersion, o.Namespace)
	switch {
	case err != nil:
		return err
	case refused != nil:
		conditions.SetFalse(sourcesv1.Available, sourcesv1.ReasonSubjectRefused, sink.Sentence(refused.Error()), now)
	case count == 0 && o.Spec.Subject.Name != "":
		conditions.SetFalse(sourcesv1.Available, sourcesv1.ReasonSubjectMissing, fmt.Sprintf("There is no %s called %s.", what, o.Spec.Subject.Name), now)
	case count == 0:
		conditions.SetFalse(sourcesv1.Available, sourcesv1.ReasonSubjectMissing, fmt.Sprintf("There is no %s with these labels.", what), now)
	default:
		conditions.SetTrue(sourcesv1.Available, now)
	}
	return nil
}

// bindAll sets the variables of all subjects, none for nil. It returns how many there are, why one of them does not take
// them, and an error to try again after.
func (r *reconciler) bindAll(ctx context.Context, o *sourcesv1.SinkBinding, env []corev1.EnvVar) (count int, refused, err error) {
	s := o.Spec.Subject
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(s.APIVersion)
	list.SetKind(s.Kind + "List")
	if s.Name != "" {
		one := unstructured.Unstructured{}
		one.SetAPIVersion(s.APIVersion)
		one.SetKind(s.Kind)
		err = r.live.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: s.Name}, &one)
		list.Items = []unstructured.Unstructured{one}
	} else {
		selector, wrong := metav1.LabelSelectorAsSelector(s.Selector)
		if wrong != nil {
			return 0, wrong, nil
		}
		err = r.live.List(ctx, list, client.InNamespace(o.Namespace), client.MatchingLabelsSelector{Selector: selector})
	}
	switch {
	case apierrors.IsNotFound(err):
		return 0, nil, nil
	case meta.IsNoMatchError(err), apierrors.IsForbidden(err):
		return 0, err, nil
	case err != nil:
		return 0, nil, err
	}
	for i := range list.Items {
		one := &list.Items[i]
		if one.GetDeletionTimestamp() != nil {
			continue
		}
		before := one.DeepCopy()
		changed, err := bind(one, env)
		if err != nil {
			refused = err
			continue
		}
		count++
		if !changed {
			continue
		}
		err = r.Patch(ctx, one, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(manager))
		switch {
		case apierrors.IsInvalid(err) && s.Kind == "Job":
			refused = fmt.Errorf("the template of Job %s cannot be changed any more: make the subject what makes the Job, such as a CronJob", one.GetName())
		case apply.Refused(err):
			refused = err
		case client.IgnoreNotFound(err) != nil:
			return count, nil, err
		}
	}
	return count, refused, nil
}
