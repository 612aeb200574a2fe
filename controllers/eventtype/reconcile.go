package eventtype

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/apis/eventing/v1beta2"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/topic"
)

const manager = "ebb-eventtype"

// byBroker indexes by the Broker that is referred to.
const byBroker = "ebb.eventtype.broker"

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager, sinks *sink.Resolver) error {
	r := &reconciler{Client: mgr.GetClient(), sinks: sinks, now: time.Now}
	kind := eventingv1.GroupVersion.WithKind(eventingv1.KindBroker).GroupKind()
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1beta2.EventType{}, byBroker, func(o client.Object) []string {
		return sink.Keys(o.GetNamespace(), &duck.Destination{Ref: reference(o.(*v1beta2.EventType))})
	})
	if err != nil {
		return fmt.Errorf("index %s: %w", byBroker, err)
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("eventtype").
		For(&v1beta2.EventType{}).
		Watches(&eventingv1.Broker{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			list := &v1beta2.EventTypeList{}
			if err := r.List(ctx, list, client.MatchingFields{byBroker: sink.Key(kind, o.GetNamespace(), o.GetName())}, client.UnsafeDisableDeepCopy); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "EventTypes that a Broker concerns could not be listed")
			}
			var requests []reconcile.Request
			for i := range list.Items {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
			}
			return requests
		}), builder.WithPredicates(predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}))
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the eventtype controller: %w", err)
	}
	return nil
}

// reference is what has the events; nil where nothing is named.
func reference(o *v1beta2.EventType) *duck.KReference {
	if o.Spec.Reference == nil && o.Spec.Broker != "" {
		return &duck.KReference{APIVersion: eventingv1.GroupVersion.String(), Kind: eventingv1.KindBroker, Name: o.Spec.Broker}
	}
	return o.Spec.Reference
}

type reconciler struct {
	client.Client
	sinks *sink.Resolver
	now   func() time.Time
}

// Reconcile says whether what has the events is there.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &v1beta2.EventType{}
	err := r.Get(ctx, req.NamespacedName, o)
	if apierrors.IsNotFound(err) || err == nil && o.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	next, now := o.DeepCopy(), r.now()
	next.Status.ObservedGeneration = o.Generation
	conditions := &next.Status.Conditions
	var again time.Duration
	var workErr error
	if ref := reference(o); ref == nil {
		conditions.SetTrue(v1beta2.ReferenceExists, now) // of nothing in particular
	} else {
		there, watched, err := r.sinks.Exists(ctx, ref, o.Namespace)
		switch {
		case err != nil:
			workErr = err
		case there:
			conditions.SetTrue(v1beta2.ReferenceExists, now)
		default:
			conditions.SetFalse(v1beta2.ReferenceExists, v1beta2.ReasonReferenceMissing, fmt.Sprintf("%s %s/%s does not exist.", ref.Kind, o.Namespace, ref.Name), now)
		}
		if !watched {
			again = topic.LookAgain
		}
	}
	conditions.Aggregate(v1beta2.Dependents(), now)
	_, err = apply.Status(ctx, r.Client, manager, next, o)
	return ctrl.Result{RequeueAfter: again}, errors.Join(workErr, client.IgnoreNotFound(err))
}
