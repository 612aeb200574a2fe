package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Sequence sends an event to one step, its reply to the next, and the last one's to reply.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/addressable=true"
// +kubebuilder:resource:path=sequences,singular=sequence,categories=all;knative;flows
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.address.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Sequence struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec SequenceSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status SequenceStatus `json:"status,omitzero"`
}

// SequenceList is a list of Sequences.
//
// +kubebuilder:object:root=true
type SequenceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Sequence `json:"items"`
}

// SequenceSpec is the steps.
type SequenceSpec struct {
	// Steps in their order.
	// +listType=atomic
	Steps []SequenceStep `json:"steps"`
	// ChannelTemplate has no effect: every Channel of Ebb is a topic of the one store of events.
	// +optional
	ChannelTemplate *messagingv1.ChannelTemplateSpec `json:"channelTemplate,omitempty"`
	// Reply gets what the last step answers.
	// +optional
	Reply *duck.Destination `json:"reply,omitempty"`
}

// SequenceStep gets an event and may answer with the next.
type SequenceStep struct {
	duck.Destination `json:",inline"`

	// Delivery to this step.
	// +optional
	Delivery *duck.DeliverySpec `json:"delivery,omitempty"`
}

// SequenceStatus is what Ebb has seen of a Sequence.
type SequenceStatus struct {
	serving.Status `json:",inline"`

	// SubscriptionStatuses are in the order of the steps.
	// +optional
	// +listType=atomic
	SubscriptionStatuses []SubscriptionStatus `json:"subscriptionStatuses,omitempty"`
	// ChannelStatuses are in the order of the steps.
	// +optional
	// +listType=atomic
	ChannelStatuses []ChannelStatus `json:"channelStatuses,omitempty"`

	duck.AddressStatus `json:",inline"`

	// +optional
	Auth *duck.AuthStatus `json:"auth,omitempty"`

	duck.AppliedEventPoliciesStatus `json:",inline"`
}

// SubscriptionStatus is one Subscription that was made.
type SubscriptionStatus struct {
	Subscription corev1.ObjectReference `json:"subscription"`
	// ReadyCondition is its Ready.
	ReadyCondition serving.Condition `json:"ready"`
}

// ChannelStatus is one Channel that was made.
type ChannelStatus struct {
	Channel corev1.ObjectReference `json:"channel"`
	// ReadyCondition is its Ready.
	ReadyCondition serving.Condition `json:"ready"`
}

// SetDefaults fills in the namespaces of references.
func (s *Sequence) SetDefaults(*settings.Settings) {
	for i := range s.Spec.Steps {
		s.Spec.Steps[i].Destination.SetDefaults(s.Namespace)
		s.Spec.Steps[i].Delivery.SetDefaults(s.Namespace)
	}
	s.Spec.Reply.SetDefaults(s.Namespace)
}

// Warnings are none.
func (*Sequence) Warnings() []string { return nil }

// Validate lists what is wrong with a Sequence that is about to be stored.
func (s *Sequence) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := parts(len(s.Spec.Steps), spec.Child("steps"))
	if len(errs) > 0 {
		return errs
	}
	for i := range s.Spec.Steps {
		at, step := spec.Child("steps").Index(i), &s.Spec.Steps[i]
		errs = append(errs, step.Destination.Validate(at)...)
		errs = append(errs, step.Delivery.Validate(at.Child("delivery"))...)
	}
	errs = append(errs, s.Spec.ChannelTemplate.Validate(spec.Child("channelTemplate"))...)
	if s.Spec.Reply != nil {
		errs = append(errs, s.Spec.Reply.Validate(spec.Child("reply"))...)
	}
	return errs
}

func parts(n int, path *field.Path) field.ErrorList {
	switch {
	case n == 0:
		return field.ErrorList{field.Required(path, "at least one")}
	case n > maxParts:
		return field.ErrorList{field.TooMany(path, n, maxParts)}
	}
	return nil
}

// UntypedSpec points to the spec.
func (s *Sequence) UntypedSpec() any { return &s.Spec }
