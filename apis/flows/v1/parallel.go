package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Parallel sends an event to each branch whose filter lets it pass.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/addressable=true"
// +kubebuilder:resource:path=parallels,singular=parallel,categories=all;knative;flows
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.address.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Parallel struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec ParallelSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status ParallelStatus `json:"status,omitzero"`
}

// ParallelList is a list of Parallels.
//
// +kubebuilder:object:root=true
type ParallelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Parallel `json:"items"`
}

// ParallelSpec is the branches.
type ParallelSpec struct {
	// Branches all get every event.
	// +listType=atomic
	Branches []ParallelBranch `json:"branches"`
	// ChannelTemplate has no effect: every Channel of Ebb is a topic of the one store of events.
	// +optional
	ChannelTemplate *messagingv1.ChannelTemplateSpec `json:"channelTemplate,omitempty"`
	// Reply gets what the subscribers of branches without a reply answer.
	// +optional
	Reply *duck.Destination `json:"reply,omitempty"`
}

// ParallelBranch is a filter, a subscriber, and where its answers go.
type ParallelBranch struct {
	// Filter gets the event and answers with it, or another, where it is to go on.
	// +optional
	Filter *duck.Destination `json:"filter,omitempty"`
	// Subscriber gets what the filter answers.
	Subscriber duck.Destination `json:"subscriber"`
	// Reply gets what the subscriber answers.
	// +optional
	Reply *duck.Destination `json:"reply,omitempty"`
	// Delivery to the subscriber.
	// +optional
	Delivery *duck.DeliverySpec `json:"delivery,omitempty"`
}

// ParallelStatus is what Ebb has seen of a Parallel.
type ParallelStatus struct {
	serving.Status `json:",inline"`

	// IngressChannelStatus is the Channel that events come to.
	// +optional
	IngressChannelStatus *ChannelStatus `json:"ingressChannelStatus,omitempty"`
	// BranchStatuses are in the order of the branches.
	// +optional
	// +listType=atomic
	BranchStatuses []ParallelBranchStatus `json:"branchStatuses,omitempty"`

	duck.AddressStatus `json:",inline"`

	// +optional
	Auth *duck.AuthStatus `json:"auth,omitempty"`

	duck.AppliedEventPoliciesStatus `json:",inline"`
}

// ParallelBranchStatus is what was made for a branch.
type ParallelBranchStatus struct {
	// FilterSubscriptionStatus sends from the ingress to the filter.
	// +optional
	FilterSubscriptionStatus *SubscriptionStatus `json:"filterSubscriptionStatus,omitempty"`
	// FilterChannelStatus has what the filter answered.
	// +optional
	FilterChannelStatus *ChannelStatus `json:"filterChannelStatus,omitempty"`
	// SubscriptionStatus sends from there to the subscriber.
	// +optional
	SubscriptionStatus *SubscriptionStatus `json:"subscriberSubscriptionStatus,omitempty"`
}

// SetDefaults fills in the namespaces of references.
func (p *Parallel) SetDefaults(*settings.Settings) {
	for i := range p.Spec.Branches {
		b := &p.Spec.Branches[i]
		b.Filter.SetDefaults(p.Namespace)
		b.Subscriber.SetDefaults(p.Namespace)
		b.Reply.SetDefaults(p.Namespace)
		b.Delivery.SetDefaults(p.Namespace)
	}
	p.Spec.Reply.SetDefaults(p.Namespace)
}

// Warnings are none.
func (*Parallel) Warnings() []string { return nil }

// Validate lists what is wrong with a Parallel that is about to be stored.
func (p *Parallel) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := parts(len(p.Spec.Branches), spec.Child("branches"))
	if len(errs) > 0 {
		return errs
	}
	for i := range p.Spec.Branches {
		at, b := spec.Child("branches").Index(i), &p.Spec.Branches[i]
		if b.Filter != nil {
			errs = append(errs, b.Filter.Validate(at.Child("filter"))...)
		}
		errs = append(errs, b.Subscriber.Validate(at.Child("subscriber"))...)
		if b.Reply != nil {
			errs = append(errs, b.Reply.Validate(at.Child("reply"))...)
		}
		errs = append(errs, b.Delivery.Validate(at.Child("delivery"))...)
	}
	errs = append(errs, p.Spec.ChannelTemplate.Validate(spec.Child("channelTemplate"))...)
	if p.Spec.Reply != nil {
		errs = append(errs, p.Spec.Reply.Validate(spec.Child("reply"))...)
	}
	return errs
}

// UntypedSpec points to the spec.
func (p *Parallel) UntypedSpec() any { return &p.Spec }
