package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"ebb.dev/ebb/apis/eventing"
)

// GroupVersion is flows.knative.dev/v1.
var GroupVersion = schema.GroupVersion{Group: eventing.FlowsGroupName, Version: "v1"}

// Kinds of the group.
const (
	KindSequence = "Sequence"
	KindParallel = "Parallel"
)

// AddToScheme registers the kinds and their lists.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Sequence{}, &SequenceList{}, &Parallel{}, &ParallelList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// Conditions of Sequences and Parallels, beside Addressable.
const (
	// ChannelsReady: every Channel that was made takes events.
	ChannelsReady = "ChannelsReady"
	// SubscriptionsReady: every Subscription that was made is Ready.
	SubscriptionsReady = "SubscriptionsReady"
	// Addressable: there is an address.
	Addressable = "Addressable"
)

// Dependents are the conditions that decide the Ready of both kinds.
func Dependents() []string { return []string{ChannelsReady, SubscriptionsReady, Addressable} }

// maxParts bounds the steps of a Sequence and the branches of a Parallel.
const maxParts = 100
