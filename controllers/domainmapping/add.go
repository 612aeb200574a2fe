package domainmapping

import (
	"context"
	"fmt"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	issuing "ebb.dev/ebb/controllers/certificate"
	watch "ebb.dev/ebb/controllers/settings"
)

// Indexes of the cache.
const (
	byTarget = "ebb.domainmapping.target" // mappings by the name of what they lead to
	byName   = "ebb.domainmapping.name"   // mappings of all namespaces by their name
)

// Programmed tells what the gateways have.
type Programmed interface {
	// MappingState returns the number of connected gateways, the number of those that have
	// not yet acknowledged the mapping as it is stored, and what gateways rejected of it.
	MappingState(namespace, name string) (connected, pending int, rejected []string)
	// MappingChanges tells of mappings whose state, or whose certificate's, may have changed.
	MappingChanges() <-chan event.GenericEvent
	// CertificateState says whether the certificate in a Secret of the namespace is served
	// for a host, whether the Secret was looked at, and what is wrong with it.
	CertificateState(namespace, secret, host string) (served, known bool, problem string)
	// TLS says whether gateways listen with TLS at all.
	TLS() bool
}

// Options of the controller.
type Options struct {
	// Settings of the platform. Required.
	Settings *settings.Store
	// Programmed tells what the gateways have. Required.
	Programmed Programmed
	// Issuer of certificates; without one there are only those that users bring.
	Issuer *issuing.Issuer
	// Workers is the number of mappings worked on at the same time; 0 means 2.
	Workers int
}

// Add puts the controllers of mappings and of their claims into mgr. It does not block.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Settings == nil || opts.Programmed == nil {
		return fmt.Errorf("add the domainmapping controller: Options.Settings and Options.Programmed are required")
	}
	if opts.Workers == 0 {
		opts.Workers = 2
	}
	r := &reconciler{
		Client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("ebb-domainmapping"),
		settings: opts.Settings, programmed: opts.Programmed, issuer: opts.Issuer, now: time.Now,
	}
	ctx, indexer := context.Background(), mgr.GetFieldIndexer()
	for index, key := range map[string]func(*v1beta1.DomainMapping) string{
		byTarget: func(m *v1beta1.DomainMapping) string { return m.Spec.Ref.Name },
		byName:   func(m *v1beta1.DomainMapping) string { return m.Name },
	} {
		err := indexer.IndexField(ctx, &v1beta1.DomainMapping{}, index, func(o client.Object) []string {
			return []string{key(o.(*v1beta1.DomainMapping))}
		})
		if err != nil {
			return fmt.Errorf("index %s: %w", index, err)
		}
	}
	all := func(ctx context.Context) ([]reconcile.Request, error) { return r.requests(ctx), nil }
	b := ctrl.NewControllerManagedBy(mgr).
		Named("domainmapping").
		For(&v1beta1.DomainMapping{}).
		Watches(&v1.Service{}, handler.EnqueueRequestsFromMapFunc(r.leadingTo)).
		Watches(&v1.Route{}, handler.EnqueueRequestsFromMapFunc(r.leadingTo)).
		Watches(&v1alpha1.ClusterDomainClaim{}, handler.EnqueueRequestsFromMapFunc(r.named)).
		// One that goes makes room for those of its name in other namespaces.
		Watches(&v1beta1.DomainMapping{}, handler.EnqueueRequestsFromMapFunc(r.named)).
		WatchesRawSource(source.Channel(opts.Programmed.MappingChanges(), &handler.EnqueueRequestForObject{})).
		WatchesRawSource(watch.Source(opts.Settings, all)).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers})
	if opts.Issuer != nil {
		b = b.WatchesRawSource(opts.Issuer.Source(v1beta1.KindDomainMapping, all))
	}
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the domainmapping controller: %w", err)
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("domainclaim").
		For(&v1alpha1.ClusterDomainClaim{}).
		Watches(&v1beta1.DomainMapping{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: o.GetName()}}}
		})).
		Complete(&collector{Client: mgr.GetClient()})
	if err != nil {
		return fmt.Errorf("add the domainclaim controller: %w", err)
	}
	return nil
}

func (r *reconciler) leadingTo(ctx context.Context, o client.Object) []reconcile.Request {
	return r.requests(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{byTarget: o.GetName()})
}

func (r *reconciler) named(ctx context.Context, o client.Object) []reconcile.Request {
	return r.requests(ctx, client.MatchingFields{byName: o.GetName()})
}

func (r *reconciler) requests(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	list := &v1beta1.DomainMappingList{}
	if err := r.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "domain mappings that a change concerns could not be listed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
