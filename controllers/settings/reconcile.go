package settings

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// Options of the controller.
type Options struct {
	// Store takes what the ConfigMaps say. Required.
	Store *settings.Store
	// Namespace of the ConfigMaps; "" means ebb-system.
	Namespace string
}

type reconciler struct {
	client.Client
	store  *settings.Store
	events events.EventRecorder
}

// Add puts the controller into mgr. It does not block; the controller runs with mgr, in
// every replica, since settings are needed by more than the leader.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Store == nil {
		return fmt.Errorf("add the settings controller: Options.Store is required")
	}
	if opts.Namespace == "" {
		opts.Namespace = serving.Namespace
	}
	r := &reconciler{Client: mgr.GetClient(), store: opts.Store, events: mgr.GetEventRecorder("ebb-settings")}
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == opts.Namespace && slices.Contains(settings.Names(), o.GetName())
	})
	err := ctrl.NewControllerManagedBy(mgr).
		Named("settings").
		For(&corev1.ConfigMap{}).
		WithEventFilter(ours).
		WithOptions(ctrlOptions()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("add the settings controller: %w", err)
	}
	return nil
}

// Load takes every ConfigMap that is there into the store, once, before anything works
// with the settings: a controller that began with defaults would, for a moment, give every
// Route the default domain. reader must read past a cache that does not run yet. A ConfigMap that
// is bad leaves the defaults of its part and is reported.
func Load(ctx context.Context, reader client.Reader, opts Options) error {
	for _, name := range settings.Names() {
		m := &corev1.ConfigMap{}
		err := reader.Get(ctx, client.ObjectKey{Namespace: opts.Namespace, Name: name}, m)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read ConfigMap %s/%s: %w", opts.Namespace, name, err)
		}
		if err := opts.Store.Update(name, m.Data); err != nil {
			ctrl.LoggerFrom(ctx).Info("settings not taken, the defaults hold", "configmap", opts.Namespace+"/"+name, "error", err.Error())
		}
	}
	return nil
}

// Reconcile brings one ConfigMap into the store; one that is gone means its defaults.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	m := &corev1.ConfigMap{}
	err := r.Get(ctx, req.NamespacedName, m)
	if err != nil && !apierrors.IsNotFound(err) {
		return ctrl.Result{}, fmt.Errorf("read ConfigMap %s: %w", req.NamespacedName, err)
	}
	if err := r.store.Update(req.Name, m.Data); err != nil {
		ctrl.LoggerFrom(ctx).Info("settings not taken, the last good ones stay", "configmap", req.String(), "error", err.Error())
		if m.UID != "" {
			r.events.Eventf(m, nil, corev1.EventTypeWarning, "InvalidSettings", "ReadSettings", "The last good settings stay: %v", err)
		}
	}
	return ctrl.Result{}, nil // trying again is of no use before the ConfigMap changes
}

// Source wakes a controller for every object that list returns, whenever the settings
// change: list is called once a change, from one goroutine, and should read a cache.
func Source(store *settings.Store, list func(ctx context.Context) ([]reconcile.Request, error)) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		changed := store.Subscribe()
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-changed:
				}
				requests, err := list(ctx)
				if err != nil {
					ctrl.LoggerFrom(ctx).Error(err, "settings changed, but what depends on them could not be listed")
				}
				for _, request := range requests {
					queue.Add(request)
				}
			}
		}()
		return nil
	})
}

func ctrlOptions() controller.Options {
	return controller.Options{MaxConcurrentReconciles: 1, NeedLeaderElection: new(false)}
}
