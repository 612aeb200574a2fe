package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"ebb.dev/ebb/apis/eventing"
)

// GroupVersion is eventing.knative.dev/v1.
var GroupVersion = schema.GroupVersion{Group: eventing.GroupName, Version: "v1"}

// Kinds of the version.
const (
	KindBroker  = "Broker"
	KindTrigger = "Trigger"
)

// AddToScheme registers the kinds and their lists.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Broker{}, &BrokerList{}, &Trigger{}, &TriggerList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
