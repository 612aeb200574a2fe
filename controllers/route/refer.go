package route

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/controllers/apply"
)

// referrer is the field manager of what is written on Revisions.
const referrer = "ebb-route-refer"

// routing returns the labels and annotations that a Revision should have when routes
// (names, sorted) send traffic to it, and whether it has them.
func routing(rev *v1.Revision, routes []string, now time.Time) (labels, annotations map[string]string, same bool) {
	state, list := serving.RoutingStateReserve, strings.Join(routes, ",")
	if list != "" {
		state = serving.RoutingStateActive
	}
	since := rev.Annotations[serving.RoutingStateModifiedAnnotation]
	moved := rev.Labels[serving.RoutingStateLabel] != state
	if moved || since == "" {
		since = now.UTC().Format(time.RFC3339)
	}
	annotations = map[string]string{serving.RoutingStateModifiedAnnotation: since}
	if list != "" {
		annotations[serving.RoutesAnnotation] = list
	}
	return map[string]string{serving.RoutingStateLabel: state}, annotations, !moved && rev.Annotations[serving.RoutesAnnotation] == list
}

// refer notes on every Revision that the Route sends traffic to, or did, which Routes do.
// traffic is the Route's own as it is now; empty when the Route is gone.
func (r *reconciler) refer(ctx context.Context, route types.NamespacedName, traffic []v1.TrafficTarget) error {
	var now []string
	for _, t := range traffic {
		now = append(now, t.RevisionName)
	}
	touched := slices.Clone(now)
	before := &v1.RevisionList{}
	if err := r.List(ctx, before, client.InNamespace(route.Namespace), client.MatchingFields{byRoute: route.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("route %s: list revisions it sent traffic to: %w", route, err)
	}
	for i := range before.Items {
		touched = append(touched, before.Items[i].Name)
	}
	slices.Sort(touched)
	for _, revision := range slices.Compact(touched) {
		if err := r.referOne(ctx, route, revision, slices.Contains(now, revision)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reconciler) referOne(ctx context.Context, route types.NamespacedName, revision string, referred bool) error {
	rev := &v1.Revision{}
	if err := r.Get(ctx, types.NamespacedName{Namespace: route.Namespace, Name: revision}, rev); err != nil {
		return client.IgnoreNotFound(err)
	}
	others := &v1.RouteList{}
	if err := r.List(ctx, others, client.InNamespace(route.Namespace), client.MatchingFields{byTarget: servedKey(revision)}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("revision %s/%s: list routes to it: %w", route.Namespace, revision, err)
	}
	var routes []string
	for i := range others.Items {
		if others.Items[i].Name != route.Name {
			routes = append(routes, others.Items[i].Name)
		}
	}
	if referred {
		routes = append(routes, route.Name)
	}
	slices.Sort(routes)
	labels, annotations, same := routing(rev, routes, r.now())
	if same {
		return nil
	}
	err := apply.Metadata(ctx, r.Client, referrer, rev, labels, annotations)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // another one of its name by now, or none
	}
	return err
}
