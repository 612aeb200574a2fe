package apply

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// UnlessLeaving is r, but for what it cannot make because the namespace is being deleted:
// that is how it should be, and neither an error nor a reason to try again.
func UnlessLeaving(r reconcile.Reconciler) reconcile.Reconciler { return unlessLeaving{r} }

type unlessLeaving struct{ reconcile.Reconciler }

func (u unlessLeaving) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	result, err := u.Reconciler.Reconcile(ctx, request)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return reconcile.Result{}, nil
	}
	return result, err
}
