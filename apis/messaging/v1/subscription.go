package v1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Subscription sends the events of a Channel to a subscriber, and its replies on.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=subscriptions,singular=subscription,shortName=sub,categories=all;knative;messaging
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Subscription struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec SubscriptionSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status SubscriptionStatus `json:"status,omitzero"`
}

// SubscriptionList is a list of Subscriptions.
//
// +kubebuilder:object:root=true
type SubscriptionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Subscription `json:"items"`
}

// SubscriptionSpec says where the events of which Channel go.
type SubscriptionSpec struct {
	// Channel of the namespace.
	Channel duck.KReference `json:"channel"`
	// Subscriber gets the events; without one they go to reply as they are.
	// +optional
	Subscriber *duck.Destination `json:"subscriber,omitempty"`
	// Reply gets the events that the subscriber answers with.
	// +optional
	Reply *duck.Destination `json:"reply,omitempty"`
	// Delivery is when an event is tried again; what is not said here is said by the Channel.
	// +optional
	Delivery *duck.DeliverySpec `json:"delivery,omitempty"`
}

// SubscriptionStatus is what Ebb has seen of a Subscription.
type SubscriptionStatus struct {
	serving.Status `json:",inline"`

	// PhysicalSubscription is what the spec's destinations were resolved to.
	// +optional
	PhysicalSubscription PhysicalSubscription `json:"physicalSubscription,omitzero"`
	// +optional
	Auth *duck.AuthStatus `json:"auth,omitempty"`
}

// PhysicalSubscription is addresses. The last good ones stay when one cannot be found any more.
type PhysicalSubscription struct {
	// +optional
	SubscriberURI string `json:"subscriberUri,omitempty"`
	// +optional
	SubscriberCACerts *string `json:"subscriberCACerts,omitempty"`
	// +optional
	SubscriberAudience *string `json:"subscriberAudience,omitempty"`
	// +optional
	ReplyURI string `json:"replyUri,omitempty"`
	// +optional
	ReplyCACerts *string `json:"replyCACerts,omitempty"`
	// +optional
	ReplyAudience *string `json:"replyAudience,omitempty"`

	duck.DeliveryStatus `json:",inline"`
}

// Conditions of a Subscription.
const (
	// ReferencesResolved: subscriber, reply and dead-letter sink have addresses.
	ReferencesResolved = "ReferencesResolved"
	// ChannelReady: the Channel is there and takes events.
	ChannelReady = "ChannelReady"
	// AddedToChannel: the store of events keeps a place for the Subscription.
	AddedToChannel = "AddedToChannel"
)

// SubscriptionDependents are the conditions that decide a Subscription's Ready.
func SubscriptionDependents() []string {
	return []string{ReferencesResolved, ChannelReady, AddedToChannel}
}

// Reasons of a Subscription's conditions.
const (
	ReasonChannelMissing    = "ChannelDoesNotExist"
	ReasonChannelNotReady   = "ChannelNotReady"
	ReasonChannelNotOfKnown = "ChannelKindNotSupported"
)

// SetDefaults fills in the namespaces of references.
func (s *Subscription) SetDefaults(*settings.Settings) {
	s.Spec.Channel.SetDefaults(s.Namespace)
	s.Spec.Subscriber.SetDefaults(s.Namespace)
	s.Spec.Reply.SetDefaults(s.Namespace)
	s.Spec.Delivery.SetDefaults(s.Namespace)
}

// Warnings are none.
func (*Subscription) Warnings() []string { return nil }

// Validate lists what is wrong with a Subscription that is about to be stored.
func (s *Subscription) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := eventingv1.ValidateDeliveryAnnotations(s.Annotations)
	errs = append(errs, s.Spec.Channel.Validate(spec.Child("channel"))...)
	if n := s.Spec.Channel.Namespace; n != "" && n != s.Namespace {
		errs = append(errs, field.Invalid(spec.Child("channel", "namespace"), n, fmt.Sprintf("must be the namespace of the Subscription, %q", s.Namespace)))
	}
	if s.Spec.Subscriber.Empty() && s.Spec.Reply.Empty() {
		errs = append(errs, field.Required(spec.Child("subscriber"), "give subscriber, reply or both"))
	}
	if s.Spec.Subscriber != nil && !s.Spec.Subscriber.Empty() {
		errs = append(errs, s.Spec.Subscriber.Validate(spec.Child("subscriber"))...)
	}
	if s.Spec.Reply != nil && !s.Spec.Reply.Empty() {
		errs = append(errs, s.Spec.Reply.Validate(spec.Child("reply"))...)
	}
	return append(errs, s.Spec.Delivery.Validate(spec.Child("delivery"))...)
}

// ValidateChange lists what may not change.
func (s *Subscription) ValidateChange(old runtime.Object) field.ErrorList {
	was, ok := old.(*Subscription)
	if !ok {
		return nil
	}
	a, b := was.Spec.Channel, s.Spec.Channel
	a.SetDefaults(was.Namespace)
	b.SetDefaults(s.Namespace)
	if a.GroupKind() != b.GroupKind() || a.Name != b.Name || a.Namespace != b.Namespace {
		return field.ErrorList{field.Forbidden(field.NewPath("spec", "channel"),
			fmt.Sprintf("cannot be changed (it is %s %q): delete the Subscription and make it anew", was.Spec.Channel.Kind, was.Spec.Channel.Name))}
	}
	return nil
}

// UntypedSpec points to the spec.
func (s *Subscription) UntypedSpec() any { return &s.Spec }
