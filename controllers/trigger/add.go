package trigger

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
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/controllers/apply"
	watch "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/topic"
)

// Indexes of the cache.
const (
	bySink   = "ebb.trigger.sink"   // by what destinations refer to
	byBroker = "ebb.trigger.broker" // by the Broker's name
)

// Options of the controller.
type Options struct {
	// Keeper of topics. Required.
	Keeper *topic.Keeper
	// Workers is the number of Triggers worked on at the same time; 0 means 4.
	Workers int
}

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Keeper == nil {
		return fmt.Errorf("add the trigger controller: Options.Keeper is required")
	}
	if opts.Workers == 0 {
		opts.Workers = 4
	}
	r := &reconciler{Client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder(manager), keeper: opts.Keeper, now: time.Now}
	for index, keys := range map[string]func(*eventingv1.Trigger) []string{
		bySink: func(t *eventingv1.Trigger) []string {
			destinations := []*duck.Destination{&t.Spec.Subscriber}
			if t.Spec.Delivery != nil {
				destinations = append(destinations, t.Spec.Delivery.DeadLetterSink)
			}
			return sink.Keys(t.Namespace, destinations...)
		},
		byBroker: func(t *eventingv1.Trigger) []string { return []string{t.Spec.Broker} },
	} {
		err := mgr.GetFieldIndexer().IndexField(context.Background(), &eventingv1.Trigger{}, index, func(o client.Object) []string {
			return keys(o.(*eventingv1.Trigger))
		})
		if err != nil {
			return fmt.Errorf("index %s: %w", index, err)
		}
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("trigger").
		For(&eventingv1.Trigger{}).
		Watches(&eventingv1.Broker{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.logged(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{byBroker: o.GetName()})
		}), builder.WithPredicates(counts())).
		WatchesRawSource(watch.Source(opts.Keeper.Settings, func(ctx context.Context) ([]reconcile.Request, error) { return r.requests(ctx) })).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers})
	b = sink.Watch(b, func(ctx context.Context, key string) []reconcile.Request {
		return r.logged(ctx, client.MatchingFields{bySink: key})
	})
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the trigger controller: %w", err)
	}
	return nil
}

// counts leaves out changes of a Broker that are nothing to its Triggers.
func counts() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, is := e.ObjectOld.(*eventingv1.Broker), e.ObjectNew.(*eventingv1.Broker)
		return was.UID != is.UID || was.Generation != is.Generation || (was.DeletionTimestamp == nil) != (is.DeletionTimestamp == nil) ||
			!equality.Semantic.DeepEqual(was.Annotations, is.Annotations) || !equality.Semantic.DeepEqual(was.Status, is.Status)
	}}
}

func (r *reconciler) logged(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	requests, err := r.requests(ctx, opts...)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Triggers that a change concerns could not be listed")
	}
	return requests
}

func (r *reconciler) requests(ctx context.Context, opts ...client.ListOption) ([]reconcile.Request, error) {
	list := &eventingv1.TriggerList{}
	if err := r.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil, err
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests, nil
}
