package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"ebb.dev/ebb/apis/serving"
)

// GroupVersion is serving.knative.dev/v1.
var GroupVersion = schema.GroupVersion{Group: serving.GroupName, Version: "v1"}

// Kinds of the group.
const (
	KindService       = "Service"
	KindConfiguration = "Configuration"
	KindRoute         = "Route"
	KindRevision      = "Revision"
)

// AddToScheme registers the kinds of the group and their lists.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&Service{}, &ServiceList{},
		&Configuration{}, &ConfigurationList{},
		&Route{}, &RouteList{},
		&Revision{}, &RevisionList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
