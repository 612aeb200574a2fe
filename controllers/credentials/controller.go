package credentials

import (
	"context"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// every is how often time alone is a reason to look: what is due is due for days.
const every = 10 * time.Minute

// Add has the Keeper look when one of its objects changes, when this replica begins to
// lead, and now and then. It runs in every replica. The metadata of the objects is watched.
func Add(mgr ctrl.Manager, k *Keeper) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{}} // one look is for everything
	})
	ours := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
		switch o.GetName() {
		case k.opts.Mutating, k.opts.Validating:
			return o.GetNamespace() == ""
		case AuthoritySecret:
			return o.GetNamespace() == k.opts.Namespace
		}
		return o.GetNamespace() == k.opts.Namespace &&
			slices.ContainsFunc(Leaves(k.opts.Namespace, k.opts.Service), func(l Leaf) bool { return l.Secret == o.GetName() })
	}))
	everywhere := false
	return ctrl.NewControllerManagedBy(mgr).Named("credentials").
		WatchesMetadata(&corev1.Secret{}, all, ours).
		WatchesMetadata(&admissionv1.MutatingWebhookConfiguration{}, all, ours).
		WatchesMetadata(&admissionv1.ValidatingWebhookConfiguration{}, all, ours).
		WatchesRawSource(leads(mgr)).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere}).
		Complete(reconcile.Func(func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{RequeueAfter: every}, k.Keep(ctx)
		}))
}

// leads is a source with one event: this replica leads.
func leads(mgr manager.Manager) source.Func {
	return func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		go func() {
			select {
			case <-mgr.Elected():
				queue.Add(reconcile.Request{})
			case <-ctx.Done():
			}
		}()
		return nil
	}
}
