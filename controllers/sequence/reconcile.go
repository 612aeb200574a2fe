package sequence

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/flow"
)

const manager = "ebb-sequence"

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager) error {
	r := &reconciler{Client: mgr.GetClient(), keeper: &flow.Keeper{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Manager: manager}, now: time.Now}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("sequence").
		For(&flowsv1.Sequence{}).
		Owns(&messagingv1.Channel{}).
		Owns(&messagingv1.Subscription{}).
		Complete(apply.UnlessLeaving(r))
	if err != nil {
		return fmt.Errorf("add the sequence controller: %w", err)
	}
	return nil
}

type reconciler struct {
	client.Client
	keeper *flow.Keeper
	now    func() time.Time
}

// Reconcile brings one Sequence's parts and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &flowsv1.Sequence{}
	err := r.Get(ctx, req.NamespacedName, o)
	if apierrors.IsNotFound(err) || err == nil && o.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // what it is made of goes with it
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	channels, subscriptions := parts(o)
	workErr := r.keeper.Keep(ctx, o, channels, subscriptions)
	next := o.DeepCopy()
	status(next, channels, subscriptions, r.now())
	_, err = apply.Status(ctx, r.Client, manager, next, o)
	return ctrl.Result{}, errors.Join(workErr, client.IgnoreNotFound(err))
}
