package broker

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/eventing"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/controllers/apply"
	watch "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/topic"
	"ebb.dev/ebb/eventing/plan"
)

const manager = "ebb-broker"

// bySink indexes by the objects that the dead-letter sink refers to.
const bySink = "ebb.broker.sink"

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager, keeper *topic.Keeper) error {
	r := &reconciler{Client: mgr.GetClient(), keeper: keeper}
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &eventingv1.Broker{}, bySink, func(o client.Object) []string {
		if d := o.(*eventingv1.Broker).Spec.Delivery; d != nil {
			return sink.Keys(o.GetNamespace(), d.DeadLetterSink)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index %s: %w", bySink, err)
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("broker").
		For(&eventingv1.Broker{}).
		WatchesRawSource(watch.Source(keeper.Settings, func(ctx context.Context) ([]reconcile.Request, error) { return r.requests(ctx) })).
		WithOptions(controller.Options{MaxConcurrentReconciles: 2})
	b = sink.Watch(b, func(ctx context.Context, key string) []reconcile.Request {
		requests, err := r.requests(ctx, client.MatchingFields{bySink: key})
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Brokers that a change concerns could not be listed")
		}
		return requests
	})
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the broker controller: %w", err)
	}
	return nil
}

type reconciler struct {
	client.Client
	keeper *topic.Keeper
}

// Reconcile brings one Broker's topic and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &eventingv1.Broker{}
	if err := r.Get(ctx, req.NamespacedName, o); apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	address := plan.Address{Kind: plan.Broker, Namespace: o.Namespace, Name: o.Name}
	if !eventing.Ours(o.Annotations) {
		return ctrl.Result{}, nil
	}
	if o.DeletionTimestamp != nil {
		again, err := r.keeper.Drop(ctx, o, address)
		return ctrl.Result{RequeueAfter: again}, err
	}
	next := o.DeepCopy()
	again, workErr := r.keeper.Keep(ctx, topic.Owner{
		Object: next, Address: address, Delivery: next.Spec.Delivery,
		Status: &next.Status.Status, Addresses: &next.Status.AddressStatus, DeadLetter: &next.Status.DeliveryStatus,
		Dependents: eventingv1.BrokerDependents(),
	})
	_, err := apply.Status(ctx, r.Client, manager, next, o)
	return ctrl.Result{RequeueAfter: again}, errors.Join(workErr, client.IgnoreNotFound(err))
}

func (r *reconciler) requests(ctx context.Context, opts ...client.ListOption) ([]reconcile.Request, error) {
	list := &eventingv1.BrokerList{}
	if err := r.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil, err
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests, nil
}
