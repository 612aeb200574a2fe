package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/controllers/apply"
)

// Kind is what one kind of flow differs in.
type Kind[T client.Object] struct {
	Name  string // of the controller
	Empty func() T
	// Parts are what an object is to be made of; Status writes into its status how they are.
	Parts  func(o T) ([]*Part[*messagingv1.Channel], []*Part[*messagingv1.Subscription])
	Status func(o T, channels []*Part[*messagingv1.Channel], subscriptions []*Part[*messagingv1.Subscription], now time.Time)
}

// Add puts the controller of a kind into mgr. It does not block.
func Add[T client.Object](mgr ctrl.Manager, kind Kind[T]) error {
	manager := "ebb-" + kind.Name
	r := &reconciler[T]{
		Client: mgr.GetClient(), kind: kind, manager: manager, now: time.Now,
		keeper: &Keeper{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Manager: manager},
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named(kind.Name).
		For(kind.Empty()).
		Owns(&messagingv1.Channel{}).
		Owns(&messagingv1.Subscription{}).
		Complete(apply.UnlessLeaving(r))
	if err != nil {
		return fmt.Errorf("add the %s controller: %w", kind.Name, err)
	}
	return nil
}

type reconciler[T client.Object] struct {
	client.Client
	kind    Kind[T]
	manager string
	keeper  *Keeper
	now     func() time.Time
}

// Reconcile brings the parts and the status of one object up to date.
func (r *reconciler[T]) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := r.kind.Empty()
	err := r.Get(ctx, req.NamespacedName, o)
	if apierrors.IsNotFound(err) || err == nil && o.GetDeletionTimestamp() != nil {
		return ctrl.Result{}, nil // what it is made of goes with it
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	channels, subscriptions := r.kind.Parts(o)
	workErr := r.keeper.Keep(ctx, o, channels, subscriptions)
	next := o.DeepCopyObject().(T)
	r.kind.Status(next, channels, subscriptions, r.now())
	_, err = apply.Status(ctx, r.Client, r.manager, next, o)
	return ctrl.Result{}, errors.Join(workErr, client.IgnoreNotFound(err))
}
