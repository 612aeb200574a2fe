package route

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/certificate"
)

const manager = "ebb-route"

// reasonInvalidHost: the settings give no host name for this Route.
const reasonInvalidHost = "InvalidHost"

type reconciler struct {
	client.Client
	live       client.Reader // the API server itself, past the cache
	events     events.EventRecorder
	settings   *settings.Store
	programmed Programmed
	issuer     *certificate.Issuer // nil: there are no certificates
	gateway    string
	now        func() time.Time
}

// Reconcile brings one Route's traffic, names and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	route := &v1.Route{}
	err := r.Get(ctx, req.NamespacedName, route)
	if apierrors.IsNotFound(err) || (err == nil && !route.DeletionTimestamp.IsZero()) {
		return ctrl.Result{}, r.refer(ctx, req.NamespacedName, nil)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	next := route.DeepCopy()
	if apply.Paused(route) {
		next.Status.Conditions.SetPaused(r.now())
		_, err := apply.Status(ctx, r.Client, manager, next, route)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	at, err := r.look(ctx, route)
	if err != nil {
		return ctrl.Result{}, err
	}
	again, workErr := r.work(ctx, route, next, at)
	if wait := apply.Early(route, &route.Status.Status, &next.Status.Status, r.now()); wait > 0 && len(next.Status.Traffic) == 0 {
		return ctrl.Result{RequeueAfter: wait}, workErr
	}
	changed, err := apply.Status(ctx, r.Client, manager, next, route)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(errors.Join(workErr, err))
	}
	if changed {
		r.report(route, next)
	}
	result := ctrl.Result{}
	if !again.IsZero() {
		result.RequeueAfter = max(again.Sub(r.now()), time.Millisecond)
	}
	return result, errors.Join(workErr, r.refer(ctx, req.NamespacedName, next.Status.Traffic))
}

// look reads what the spec refers to and, where a rollout may be on its way, what it moves between.
func (r *reconciler) look(ctx context.Context, route *v1.Route) (targets, error) {
	at := targets{configurations: map[string]*v1.Configuration{}, revisions: map[string]*v1.Revision{}}
	configurations, revisions := names(route.Spec.Traffic)
	for _, name := range configurations {
		c := &v1.Configuration{}
		switch err := r.Get(ctx, types.NamespacedName{Namespace: route.Namespace, Name: name}, c); {
		case err == nil:
			at.configurations[name] = c
		case !apierrors.IsNotFound(err):
			return at, fmt.Errorf("route %s/%s: read configuration %s: %w", route.Namespace, route.Name, name, err)
		}
	}
	if rolloutDuration(route, r.settings.Load()) > 0 {
		for _, t := range route.Status.Traffic {
			revisions = append(revisions, t.RevisionName)
		}
		for _, c := range at.configurations {
			revisions = append(revisions, c.Status.LatestReadyRevisionName)
		}
	}
	for _, name := range revisions {
		if name == "" || at.revisions[name] != nil {
			continue
		}
		rev := &v1.Revision{}
		switch err := r.Get(ctx, types.NamespacedName{Namespace: route.Namespace, Name: name}, rev); {
		case err == nil:
			at.revisions[name] = rev
		case !apierrors.IsNotFound(err):
			return at, fmt.Errorf("route %s/%s: read revision %s: %w", route.Namespace, route.Name, name, err)
		}
	}
	return at, nil
}

// work fills next.Status and makes the Services. It returns when a rollout takes its next
// step (zero: never); the error is one to try again after.
func (r *reconciler) work(ctx context.Context, seen, next *v1.Route, at targets) (time.Time, error) {
	s, now := r.settings.Load(), r.now()
	status := &next.Status
	status.ObservedGeneration = seen.Generation
	conditions := &status.Conditions
	conditions.Remove(v1.ConditionPaused)

	traffic, problem := assign(seen, at)
	out := rolling{traffic: traffic, rollouts: held(seen)}
	if problem != nil {
		conditions.Set(*problem, now)
	} else {
		conditions.SetTrue(v1.RouteAllTrafficAssigned, now)
		out = roll(seen, traffic, at, rolloutDuration(seen, s), now)
	}
	status.Traffic = out.traffic
	if err := urls(seen, s, status); err != nil {
		conditions.SetFalse(v1.RouteAllTrafficAssigned, reasonInvalidHost, err.Error(), now)
		status.RouteStatusFields = *seen.Status.RouteStatusFields.DeepCopy()
		out = rolling{rollouts: held(seen)}
	}
	if err := note(status, out.rollouts); err != nil {
		return time.Time{}, err
	}
	defer func() { conditions.Aggregate(v1.RouteDependents(), now) }()
	errCertificates := r.certificates(ctx, seen, next, s, now)
	want, err := makeServices(seen, status.Traffic, s, r.gateway)
	if err != nil {
		conditions.SetFalse(v1.RouteIngressReady, reasonInvalidHost, err.Error(), now)
		return out.next, errCertificates // the condition says it, and trying again does not help
	}
	foreign, err := r.services(ctx, seen, want)
	if foreign != "" {
		conditions.SetFalse(v1.RouteIngressReady, v1.ReasonNotOwned, foreign, now)
	} else {
		r.ingress(seen, next, out.message, now)
	}
	return out.next, errors.Join(errCertificates, err)
}

// ingress says what the gateways have acknowledged. What they say is of the traffic that
// is stored, so a change of it is stored first, as not yet programmed. While a rollout is
// on its way (rollout is not "") that is what it says, so that a step is one write.
func (r *reconciler) ingress(seen, next *v1.Route, rollout string, now time.Time) {
	conditions := &next.Status.Conditions
	if len(next.Status.Traffic) == 0 {
		conditions.SetUnknown(v1.RouteIngressReady, v1.ReasonIngressNotConfigured, "There is no traffic to configure a gateway for yet.", now)
		return
	}
	same := sameFields(&seen.Status.RouteStatusFields, &next.Status.RouteStatusFields) &&
		seen.Status.Annotations[serving.CertificatesAnnotation] == next.Status.Annotations[serving.CertificatesAnnotation]
	if !same && rollout == "" {
		conditions.SetUnknown(v1.RouteIngressReady, v1.ReasonProgramming, "The gateways are being told.", now)
		return
	}
	connected, pending, rejected := r.programmed.RouteState(seen.Namespace, seen.Name)
	switch {
	case len(rejected) > 0 && same:
		conditions.SetFalse(v1.RouteIngressReady, v1.ReasonRejected, strings.Join(rejected, "; "), now)
	case connected == 0:
		conditions.SetUnknown(v1.RouteIngressReady, v1.ReasonNoGateway, "No gateway is connected.", now)
	case rollout != "":
		conditions.SetUnknown(v1.RouteIngressReady, v1.ReasonRolloutInProgress, rollout, now)
	case pending > 0:
		conditions.SetUnknown(v1.RouteIngressReady, v1.ReasonProgramming, "Not every gateway has acknowledged the configuration yet.", now)
	default:
		conditions.SetTrue(v1.RouteIngressReady, now)
	}
}

// services makes the in-cluster names that the Route should have and removes those of tags that are
// gone. It returns a message when a Service of that name belongs to another.
func (r *reconciler) services(ctx context.Context, route *v1.Route, want []*corev1.Service) (string, error) {
	have := &corev1.ServiceList{}
	if err := r.List(ctx, have, client.InNamespace(route.Namespace), client.MatchingFields{byOwner: string(route.UID)}); err != nil {
		return "", fmt.Errorf("route %s/%s: list its services: %w", route.Namespace, route.Name, err)
	}
	stale := map[string]*corev1.Service{}
	for i := range have.Items {
		stale[have.Items[i].Name] = &have.Items[i]
	}
	foreign := ""
	for _, w := range want {
		delete(stale, w.Name)
		seen := &corev1.Service{}
		place, err := apply.Read(ctx, r, r.live, client.ObjectKeyFromObject(w), seen)
		switch {
		case err != nil:
		case place == apply.Nowhere:
			_, err = apply.Object(ctx, r.Client, manager, w, nil)
		case metav1.IsControlledBy(seen, route):
			_, err = apply.Object(ctx, r.Client, manager, w, seen)
		case foreign == "":
			foreign = fmt.Sprintf("A core Service named %q exists and does not belong to this Route; delete it or give the Route another name.", w.Name)
		}
		if err != nil {
			return "", err
		}
	}
	for _, old := range stale {
		if err := r.Delete(ctx, old, client.Preconditions{UID: &old.UID}); client.IgnoreNotFound(err) != nil {
			return foreign, fmt.Errorf("route %s/%s: delete service %s of a tag that is gone: %w", route.Namespace, route.Name, old.Name, err)
		}
	}
	return foreign, nil
}

func (r *reconciler) report(before, after *v1.Route) {
	for _, e := range rolloutEvents(rollouts(before), rollouts(after)) {
		r.events.Eventf(after, nil, e.kind, e.reason, "Route", "%s", e.text)
	}
	was, is := before.Status.Conditions.Get(v1.ConditionReady), after.Status.Conditions.Get(v1.ConditionReady)
	switch {
	case is.IsTrue() && !was.IsTrue():
		if apply.OfService(after) {
			return // it says so
		}
		r.events.Eventf(after, nil, corev1.EventTypeNormal, "Ready", "Route", "Traffic is served at %s", after.Status.URL)
	case is.IsFalse() && (!was.IsFalse() || was.Reason != is.Reason):
		r.events.Eventf(after, nil, corev1.EventTypeWarning, is.Reason, "Route", "%s", is.Message)
	}
}
