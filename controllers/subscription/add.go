package subscription

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/eventing/duck"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/controllers/apply"
	watch "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/topic"
)

// Indexes of the cache.
const (
	bySink    = "ebb.subscription.sink"    // by what destinations refer to
	byChannel = "ebb.subscription.channel" // by the Channel's name
)

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager, keeper *topic.Keeper) error {
	r := &reconciler{Client: mgr.GetClient(), keeper: keeper, now: time.Now}
	for index, keys := range map[string]func(*messagingv1.Subscription) []string{
		bySink: func(o *messagingv1.Subscription) []string {
			destinations := []*duck.Destination{o.Spec.Subscriber, o.Spec.Reply}
			if o.Spec.Delivery != nil {
				destinations = append(destinations, o.Spec.Delivery.DeadLetterSink)
			}
			return sink.Keys(o.Namespace, destinations...)
		},
		byChannel: func(o *messagingv1.Subscription) []string { return []string{o.Spec.Channel.Name} },
	} {
		err := mgr.GetFieldIndexer().IndexField(context.Background(), &messagingv1.Subscription{}, index, func(o client.Object) []string {
			return keys(o.(*messagingv1.Subscription))
		})
		if err != nil {
			return fmt.Errorf("index %s: %w", index, err)
		}
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("subscription").
		For(&messagingv1.Subscription{}).
		Watches(&messagingv1.Channel{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.logged(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{byChannel: o.GetName()})
		}), builder.WithPredicates(counts())).
		WatchesRawSource(watch.Source(keeper.Settings, func(ctx context.Context) ([]reconcile.Request, error) { return r.requests(ctx) })).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4})
	b = sink.Watch(b, func(ctx context.Context, key string) []reconcile.Request {
		return r.logged(ctx, client.MatchingFields{bySink: key})
	})
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the subscription controller: %w", err)
	}
	return nil
}

// counts leaves out changes of a Channel that are nothing to its Subscriptions.
func counts() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, is := e.ObjectOld.(*messagingv1.Channel), e.ObjectNew.(*messagingv1.Channel)
		return was.UID != is.UID || was.Generation != is.Generation || (was.DeletionTimestamp == nil) != (is.DeletionTimestamp == nil) ||
			!equality.Semantic.DeepEqual(was.Status, is.Status)
	}}
}

func (r *reconciler) logged(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	requests, err := r.requests(ctx, opts...)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Subscriptions that a change concerns could not be listed")
	}
	return requests
}

func (r *reconciler) requests(ctx context.Context, opts ...client.ListOption) ([]reconcile.Request, error) {
	list := &messagingv1.SubscriptionList{}
	if err := r.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil, err
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests, nil
}
