package route

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/certificate"
	watch "ebb.dev/ebb/controllers/settings"
)

// Indexes of the cache.
const (
	// byTarget indexes Routes by what they refer to; see the …Key functions.
	byTarget = "ebb.route.target"
	// byRoute indexes Revisions by the Routes noted on them.
	byRoute = "ebb.revision.route"
	// byOwner indexes core Services by the UID of the Route that controls them.
	byOwner = "ebb.route.owner"
)

// Programmed tells what the gateways have of a Route.
type Programmed interface {
	// RouteState returns the number of connected gateways, the number of those that have
	// not yet acknowledged what the Route's stored status.traffic asks for, and what
	// gateways rejected of it, in their words.
	RouteState(namespace, name string) (connected, pending int, rejected []string)
	// Changes tells of Routes whose state may have changed: an event's object is a Route
	// of which at least name and namespace are set. It is read by one controller.
	Changes() <-chan event.GenericEvent
}

// Options of the controller.
type Options struct {
	// Settings of the platform. Required.
	Settings *settings.Store
	// Programmed tells what the gateways have. Required.
	Programmed Programmed
	// Issuer of the certificates of external hosts; without one there are none.
	Issuer *certificate.Issuer
	// GatewayService is the DNS name of the gateway's in-cluster listener; "" means
	// ebb-gateway-internal.ebb-system.svc.cluster.local.
	GatewayService string
	// Workers is the number of Routes worked on at the same time; 0 means 4.
	Workers int
}

// Add puts the controller into mgr. It does not block; the controller runs with mgr.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Settings == nil || opts.Programmed == nil {
		return fmt.Errorf("add the route controller: Options.Settings and Options.Programmed are required")
	}
	if opts.GatewayService == "" {
		opts.GatewayService = "ebb-gateway-internal." + serving.Namespace + "." + settings.ClusterLocalDomain
	}
	if opts.Workers == 0 {
		opts.Workers = 4
	}
	r := &reconciler{
		Client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("ebb-route"), settings: opts.Settings,
		programmed: opts.Programmed, issuer: opts.Issuer, gateway: opts.GatewayService, now: time.Now,
	}
	if err := index(mgr); err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("route").
		For(&v1.Route{}).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(namedAs)).
		Watches(&v1.Configuration{}, handler.EnqueueRequestsFromMapFunc(r.referring(configurationKey))).
		Watches(&v1.Revision{}, handler.EnqueueRequestsFromMapFunc(r.referring(revisionKey, rollingKey))).
		WatchesRawSource(source.Channel(opts.Programmed.Changes(), &handler.EnqueueRequestForObject{})).
		WatchesRawSource(watch.Source(opts.Settings, r.all)).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers})
	if opts.Issuer != nil {
		b = b.WatchesRawSource(opts.Issuer.Source(v1.KindRoute, r.all))
	}
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the route controller: %w", err)
	}
	return nil
}

// namedAs maps a core Service to the Route that controls it and to the one of its name,
// which it may stand in the way of.
func namedAs(_ context.Context, o client.Object) []reconcile.Request {
	requests := []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
	if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == v1.KindRoute && owner.Name != o.GetName() {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}})
	}
	return requests
}

func configurationKey(name string) string { return "configuration/" + name }
func revisionKey(name string) string      { return "revision/" + name }

// servedKey is for Revisions in the status; revisionKey is for those in the spec.
func servedKey(name string) string { return "served/" + name }

// rollingKey is for Revisions that a rollout leads to.
func rollingKey(name string) string { return "rolling/" + name }

func index(mgr ctrl.Manager) error {
	ctx, indexer := context.Background(), mgr.GetFieldIndexer()
	err := indexer.IndexField(ctx, &v1.Route{}, byTarget, func(o client.Object) []string {
		route := o.(*v1.Route)
		configurations, revisions := names(route.Spec.Traffic)
		_, served := names(route.Status.Traffic)
		var keys []string
		for _, name := range configurations {
			keys = append(keys, configurationKey(name))
		}
		for _, name := range revisions {
			keys = append(keys, revisionKey(name))
		}
		for _, name := range served {
			keys = append(keys, servedKey(name))
		}
		for _, ro := range rollouts(route) {
			keys = append(keys, rollingKey(ro.To))
		}
		return keys
	})
	if err != nil {
		return fmt.Errorf("index routes by target: %w", err)
	}
	err = indexer.IndexField(ctx, &v1.Revision{}, byRoute, func(o client.Object) []string {
		if routes := o.GetAnnotations()[serving.RoutesAnnotation]; routes != "" {
			return strings.Split(routes, ",")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index revisions by route: %w", err)
	}
	err = indexer.IndexField(ctx, &corev1.Service{}, byOwner, func(o client.Object) []string {
		if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == v1.KindRoute {
			return []string{string(owner.UID)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index services by route: %w", err)
	}
	return nil
}

// referring maps an object to the Routes that have it under one of the keys.
func (r *reconciler) referring(keys ...func(string) string) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		var requests []reconcile.Request
		for _, key := range keys {
			requests = append(requests, r.requests(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{byTarget: key(o.GetName())})...)
		}
		return requests
	}
}

func (r *reconciler) all(ctx context.Context) ([]reconcile.Request, error) {
	return r.requests(ctx), nil
}

func (r *reconciler) requests(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	list := &v1.RouteList{}
	if err := r.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "routes that a change concerns could not be listed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

func sameFields(a, b *v1.RouteStatusFields) bool { return equality.Semantic.DeepEqual(a, b) }
