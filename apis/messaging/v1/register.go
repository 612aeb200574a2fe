package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"ebb.dev/ebb/apis/eventing"
)

// GroupVersion is messaging.knative.dev/v1.
var GroupVersion = schema.GroupVersion{Group: eventing.MessagingGroupName, Version: "v1"}

// Kinds of the group.
const (
	KindChannel      = "Channel"
	KindSubscription = "Subscription"
	// KindInMemoryChannel is a kind that a ChannelTemplateSpec may name.
	KindInMemoryChannel = "InMemoryChannel"
)

// AddToScheme registers the kinds and their lists.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Channel{}, &ChannelList{}, &Subscription{}, &SubscriptionList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
