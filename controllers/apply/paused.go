package apply

import (
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
)

// Paused says whether nothing is to be changed on behalf of an object.
func Paused(o client.Object) bool { return o.GetAnnotations()[serving.PausedAnnotation] == "true" }

// Refused says whether the API server does not take an object as it is: a quota, an
// admission policy, a value that is not allowed. Its words are for whoever wrote the
// object. A namespace that is being deleted is none of these.
func Refused(err error) bool {
	return (apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) &&
		!apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
