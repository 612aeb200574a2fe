package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/controllers/apply"
)

const manager = "ebb-service"

// Options of the controller; the zero value will do.
type Options struct {
	// Workers is the number of Services worked on at the same time; 0 means 4.
	Workers int
}

type reconciler struct {
	client.Client
	live   client.Reader // the API server itself, past the cache
	events events.EventRecorder
	now    func() time.Time
}

// Add puts the controller into mgr. It does not block; the controller runs with mgr.
func Add(mgr ctrl.Manager, opts Options) error {
	r := &reconciler{Client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("ebb-service"), now: time.Now}
	if opts.Workers == 0 {
		opts.Workers = 4
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("service").
		Watches(&v1.Service{}, itself()).
		Watches(&v1.Configuration{}, follow(func(o client.Object) *v1.Status { return &o.(*v1.Configuration).Status.Status })).
		Watches(&v1.Route{}, follow(func(o client.Object) *v1.Status { return &o.(*v1.Route).Status.Status })).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers}).
		Complete(apply.UnlessLeaving(r))
	if err != nil {
		return fmt.Errorf("add the service controller: %w", err)
	}
	return nil
}

// Reconcile brings one Service's children and status up to its spec.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &v1.Service{}
	if err := r.Get(ctx, req.NamespacedName, s); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !s.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	next := s.DeepCopy()
	if apply.Paused(s) {
		next.Status.Conditions.SetPaused(r.now())
		_, err := apply.Status(ctx, r.Client, manager, next, s)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	at, workErr := r.children(ctx, s)
	if workErr != nil && !at.refusal() {
		return ctrl.Result{}, workErr
	}
	next.Status = observe(s, at, r.now())
	if wait := waits(s, next, at, r.now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, workErr
	}
	changed, err := apply.Status(ctx, r.Client, manager, next, s)
	if changed && err == nil {
		r.report(s, next)
	}
	return ctrl.Result{}, errors.Join(workErr, client.IgnoreNotFound(err))
}

// waits is how long the status may wait to be written: while it has just been the first word
// about a new Service, or a child has been given a new spec and is about to say more.
func waits(s, next *v1.Service, at seen, now time.Time) time.Duration {
	if wait := apply.Early(s, &s.Status.Status, &next.Status.Status, now); wait > 0 {
		return wait
	}
	if at.changed && next.Status.Conditions.Get(v1.ConditionReady).IsUnknown() {
		return unsettled
	}
	return 0
}

// children brings the Service's children up to its spec. The error is one to try again
// after; where the API server refused a child, what it said is in the result too.
func (r *reconciler) children(ctx context.Context, s *v1.Service) (seen, error) {
	at := seen{}
	var err error
	at.configuration, err = child(ctx, r, s, &at, &v1.Configuration{}, makeConfiguration(s))
	if err != nil {
		if apply.Refused(err) {
			at.configurationRefused = err.Error()
		}
		return at, err
	}
	want := makeRoute(s)
	if at.held(s) {
		rt := &v1.Route{}
		switch err := r.Get(ctx, client.ObjectKeyFromObject(want), rt); {
		case err == nil:
			at.route = rt
		case !apierrors.IsNotFound(err):
			return at, fmt.Errorf("service %s/%s: read its route: %w", s.Namespace, s.Name, err)
		}
		return at, nil
	}
	at.route, err = child(ctx, r, s, &at, &v1.Route{}, want)
	if apply.Refused(err) {
		at.routeRefused = err.Error()
	}
	return at, err
}

// child applies the wanted child unless one of its name belongs to another, and returns
// the child as read before; nil where it was not there, where the cache has not seen it
// yet, or where it has just been changed, so that what its status says is of an earlier spec.
func child[T client.Object](ctx context.Context, r *reconciler, s *v1.Service, at *seen, seen, want T) (T, error) {
	var none T
	place, err := apply.Read(ctx, r, r.live, client.ObjectKeyFromObject(want), seen)
	switch {
	case err != nil:
		return none, err
	case place == apply.Nowhere:
		_, err := apply.Object(ctx, r.Client, manager, want, nil)
		at.changed = at.changed || err == nil
		return none, err
	case !metav1.IsControlledBy(seen, s):
		return seen, nil
	}
	changed, err := apply.Object(ctx, r.Client, manager, want, seen)
	at.changed = at.changed || changed
	if changed || err != nil || place == apply.Live {
		return none, err
	}
	return seen, nil
}

func (r *reconciler) report(before, after *v1.Service) {
	was, is := before.Status.Conditions.Get(v1.ConditionReady), after.Status.Conditions.Get(v1.ConditionReady)
	switch {
	case is.IsTrue() && !was.IsTrue():
		r.events.Eventf(after, nil, corev1.EventTypeNormal, "Ready", "Serve", "Ready at %s", after.Status.URL)
	case is.IsFalse() && (!was.IsFalse() || was.Reason != is.Reason):
		r.events.Eventf(after, nil, corev1.EventTypeWarning, eventReason(is.Reason), "Serve", "%s", is.Message)
	}
}

func eventReason(reason string) string {
	if reason == "" {
		return "NotReady"
	}
	return reason
}
