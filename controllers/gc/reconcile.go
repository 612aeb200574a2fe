package gc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	watch "ebb.dev/ebb/controllers/settings"
)

const (
	// byOwner indexes Revisions by the UID of the Configuration that controls them.
	byOwner = "ebb.gc.owner"
	// byRevision indexes Routes by the Revisions that their spec and their status name.
	byRevision = "ebb.gc.revision"
)

// Options of the controller.
type Options struct {
	// Settings of the platform. Required.
	Settings *settings.Store
	// Workers is the number of Configurations worked on at the same time; 0 means 1.
	Workers int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

type reconciler struct {
	client.Client
	settings *settings.Store
	now      func() time.Time
}

// Add puts the controller into mgr. It does not block; the controller runs with mgr.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Settings == nil {
		return fmt.Errorf("add the gc controller: Options.Settings is required")
	}
	if opts.Workers == 0 {
		opts.Workers = 1
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &reconciler{Client: mgr.GetClient(), settings: opts.Settings, now: opts.Now}
	if err := index(mgr); err != nil {
		return err
	}
	// Only what decides: not how a Revision's pods do.
	decides := builder.WithPredicates(predicate.Or(predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))
	err := ctrl.NewControllerManagedBy(mgr).
		Named("gc").
		For(&v1.Configuration{}).
		Watches(&v1.Revision{}, handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1.Configuration{}, handler.OnlyControllerOwner()), decides).
		Watches(&v1.Route{}, handler.EnqueueRequestsFromMapFunc(r.namedBy), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(watch.Source(opts.Settings, r.all)).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers}).
		Complete(apply.UnlessLeaving(r))
	if err != nil {
		return fmt.Errorf("add the gc controller: %w", err)
	}
	return nil
}

func index(mgr ctrl.Manager) error {
	ctx, indexer := context.Background(), mgr.GetFieldIndexer()
	err := indexer.IndexField(ctx, &v1.Revision{}, byOwner, func(o client.Object) []string {
		if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == v1.KindConfiguration {
			return []string{string(owner.UID)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index revisions by configuration: %w", err)
	}
	err = indexer.IndexField(ctx, &v1.Route{}, byRevision, func(o client.Object) []string {
		route := o.(*v1.Route)
		var names []string
		for _, t := range slices.Concat(route.Spec.Traffic, route.Status.Traffic) {
			if t.RevisionName != "" {
				names = append(names, t.RevisionName)
			}
		}
		slices.Sort(names)
		return slices.Compact(names)
	})
	if err != nil {
		return fmt.Errorf("index routes by revision: %w", err)
	}
	return nil
}

// namedBy maps a Route to the Configurations of the Revisions that its spec names.
func (r *reconciler) namedBy(ctx context.Context, o client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, t := range o.(*v1.Route).Spec.Traffic {
		rev := &v1.Revision{}
		if t.RevisionName == "" || r.Get(ctx, types.NamespacedName{Namespace: o.GetNamespace(), Name: t.RevisionName}, rev) != nil {
			continue // one that is not there needs no collecting
		}
		if name := rev.Labels[serving.ConfigurationLabel]; name != "" {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}})
		}
	}
	return requests
}

func (r *reconciler) all(ctx context.Context) ([]reconcile.Request, error) {
	list := &v1.ConfigurationList{}
	if err := r.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests, nil
}

// Reconcile deletes what is to go of one Configuration's Revisions.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c := &v1.Configuration{}
	if err := r.Get(ctx, req.NamespacedName, c); err != nil || !c.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	list := &v1.RevisionList{}
	if err := r.List(ctx, list, client.InNamespace(c.Namespace), client.MatchingFields{byOwner: string(c.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("configuration %s: list revisions: %w", req, err)
	}
	seen := map[string]*v1.Revision{}
	var candidates []candidate
	for i := range list.Items {
		rev := &list.Items[i]
		if !mayGo(c, rev) {
			continue
		}
		named, err := r.named(ctx, rev)
		if err != nil {
			return ctrl.Result{}, err
		}
		if !named {
			seen[rev.Name] = rev
			candidates = append(candidates, candidateOf(rev))
		}
	}
	now := r.now()
	gone, next := collect(candidates, r.settings.Load().GC, now)
	for _, name := range gone {
		if err := r.remove(ctx, c, seen[name]); err != nil {
			return ctrl.Result{}, err
		}
	}
	result := ctrl.Result{}
	if !next.IsZero() {
		result.RequeueAfter = max(next.Sub(now), time.Second)
	}
	return result, nil
}

// mayGo says whether the Revision is one that garbage collection is about.
func mayGo(c *v1.Configuration, rev *v1.Revision) bool {
	switch {
	case !rev.DeletionTimestamp.IsZero(),
		rev.Name == c.Status.LatestReadyRevisionName, rev.Name == c.Status.LatestCreatedRevisionName,
		c.Status.ObservedGeneration != c.Generation, // which one is the latest is not known yet
		rev.Labels[serving.RoutingStateLabel] == serving.RoutingStateActive,
		strings.EqualFold(rev.Annotations[serving.NoGCAnnotation], "true"):
		return false
	}
	return true
}

func candidateOf(rev *v1.Revision) candidate {
	c := candidate{name: rev.Name, created: rev.CreationTimestamp.Time, active: rev.CreationTimestamp.Time}
	if t, err := time.Parse(time.RFC3339, rev.Annotations[serving.RoutingStateModifiedAnnotation]); err == nil && t.After(c.active) {
		c.active = t
	}
	return c
}

// named says whether a Route's spec or status names the Revision. The label on the Revision follows
// what is served, so a Route that waits for another target is not in it.
func (r *reconciler) named(ctx context.Context, rev *v1.Revision) (bool, error) {
	routes := &v1.RouteList{}
	if err := r.List(ctx, routes, client.InNamespace(rev.Namespace), client.MatchingFields{byRevision: rev.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("revision %s/%s: list routes to it: %w", rev.Namespace, rev.Name, err)
	}
	return len(routes.Items) > 0, nil
}

// remove deletes a Revision that is still as it was seen; if it is not, its change brings it here again.
func (r *reconciler) remove(ctx context.Context, c *v1.Configuration, rev *v1.Revision) error {
	err := r.Delete(ctx, &v1.Revision{ObjectMeta: metav1.ObjectMeta{Namespace: rev.Namespace, Name: rev.Name}},
		client.Preconditions{UID: &rev.UID, ResourceVersion: &rev.ResourceVersion})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("revision %s/%s: delete it, which nobody needs any more: %w", rev.Namespace, rev.Name, err)
	}
	ctrl.LoggerFrom(ctx).Info("revision collected", "configuration", types.NamespacedName{Namespace: c.Namespace, Name: c.Name}.String(), "revision", rev.Name)
	return nil
}
