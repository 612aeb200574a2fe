package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"ebb.dev/ebb/apis/serving"
)

// GroupVersion is serving.knative.dev/v1beta1.
var GroupVersion = schema.GroupVersion{Group: serving.GroupName, Version: "v1beta1"}

// KindDomainMapping is the only kind of the version.
const KindDomainMapping = "DomainMapping"

// AddToScheme registers the kind and its list.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &DomainMapping{}, &DomainMappingList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
