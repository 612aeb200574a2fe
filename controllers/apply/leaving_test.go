package apply

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func TestUnlessLeaving(t *testing.T) {
	leaving := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "web", errors.New("being terminated"))
	leaving.ErrStatus.Details.Causes = append(leaving.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
	other := errors.New("other")
	for _, c := range []struct{ got, want error }{
		{nil, nil},
		{other, other},
		{fmt.Errorf("service x/web: %w", leaving), nil},
		{errors.Join(fmt.Errorf("service x/web: %w", leaving)), nil},
	} {
		r := UnlessLeaving(reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{}, c.got
		}))
		if _, err := r.Reconcile(t.Context(), reconcile.Request{}); !errors.Is(err, c.want) {
			t.Errorf("%v became %v, want %v", c.got, err, c.want)
		}
	}
}
