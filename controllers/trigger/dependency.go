package trigger

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing/duck"
	serving "ebb.dev/ebb/apis/serving/v1"
)

// readiness reads the Ready condition of an object of any kind; nil where it has none.
func readiness(ctx context.Context, live client.Reader, ref *duck.KReference) (ready *serving.Condition, found bool, err error) {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(ref.APIVersion)
	u.SetKind(ref.Kind)
	err = live.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, u)
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("read %s %s/%s: %w", ref.Kind, ref.Namespace, ref.Name, err)
	}
	var object struct {
		Status serving.Status `json:"status"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &object); err != nil {
		return nil, true, nil //nolint:nilerr // conditions of another form are none
	}
	return object.Status.Conditions.Get(serving.ConditionReady), true, nil
}
