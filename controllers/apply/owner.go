package apply

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// OfService says whether a Service made the object. Its good news are the Service's to tell.
func OfService(o metav1.Object) bool {
	owner := metav1.GetControllerOf(o)
	return owner != nil && owner.Kind == v1.KindService
}
