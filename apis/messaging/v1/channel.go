package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Channel takes events, stores them, and gives each to all of its Subscriptions.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/addressable=true"
// +kubebuilder:metadata:labels="messaging.knative.dev/subscribable=true"
// +kubebuilder:resource:path=channels,singular=channel,shortName=ch,categories=all;knative;messaging;channel
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.address.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Channel struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec ChannelSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status ChannelStatus `json:"status,omitzero"`
}

// ChannelList is a list of Channels.
//
// +kubebuilder:object:root=true
type ChannelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Channel `json:"items"`
}

// ChannelSpec is how events are kept and delivered.
type ChannelSpec struct {
	// ChannelTemplate is what Knative makes a Channel's backing channel from. Every Channel of Ebb is
	// a topic of the one store of events; the template has no effect.
	// +optional
	ChannelTemplate *ChannelTemplateSpec `json:"channelTemplate,omitempty"`
	// Subscribers are written by Knative's controllers; Ebb reads Subscriptions and leaves it alone.
	// +optional
	// +listType=atomic
	Subscribers []SubscriberSpec `json:"subscribers,omitempty"`
	// Delivery is that of Subscriptions which do not say otherwise, field by field.
	// +optional
	Delivery *duck.DeliverySpec `json:"delivery,omitempty"`
}

// ChannelTemplateSpec names a kind of channel.
type ChannelTemplateSpec struct {
	metav1.TypeMeta `json:",inline"`

	// Spec of that kind.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Spec *runtime.RawExtension `json:"spec,omitempty"`
}

// Validate lists what is wrong with a template; nil is none.
func (c *ChannelTemplateSpec) Validate(path *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	var errs field.ErrorList
	if c.Kind == "" {
		errs = append(errs, field.Required(path.Child("kind"), "the kind of the channel, like "+KindInMemoryChannel))
	}
	if gv, err := schema.ParseGroupVersion(c.APIVersion); err != nil || gv.Version == "" {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), c.APIVersion, "must be the version of the channel, like "+GroupVersion.String()))
	}
	return errs
}

// SubscriberSpec is one subscriber as Knative's controllers write it.
type SubscriberSpec struct {
	// +optional
	Name *string `json:"name,omitempty"`
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// +optional
	Generation int64 `json:"generation,omitempty"`
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
	// +optional
	Delivery *duck.DeliverySpec `json:"delivery,omitempty"`
	// +optional
	Auth *duck.AuthStatus `json:"auth,omitempty"`
}

// ChannelStatus is what Ebb has seen of a Channel.
type ChannelStatus struct {
	serving.Status `json:",inline"`

	duck.AddressStatus `json:",inline"`

	// Subscribers are the Channel's Subscriptions.
	// +optional
	// +listType=atomic
	Subscribers []SubscriberStatus `json:"subscribers,omitempty"`
	// DeadLetterChannel is of older versions.
	// +optional
	DeadLetterChannel *duck.KReference `json:"deadLetterChannel,omitempty"`

	duck.DeliveryStatus `json:",inline"`

	// Channel is the backing channel; the Channel itself.
	// +optional
	Channel *duck.KReference `json:"channel,omitempty"`

	duck.AppliedEventPoliciesStatus `json:",inline"`
}

// SubscriberStatus is one Subscription of a Channel.
type SubscriberStatus struct {
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	Ready corev1.ConditionStatus `json:"ready,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// +optional
	Auth *duck.AuthStatus `json:"auth,omitempty"`
}

// SetDefaults fills in the namespaces of references.
func (c *Channel) SetDefaults(*settings.Settings) { c.Spec.Delivery.SetDefaults(c.Namespace) }

// Warnings are none.
func (*Channel) Warnings() []string { return nil }

// Validate lists what is wrong with a Channel that is about to be stored.
func (c *Channel) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := c.Spec.ChannelTemplate.Validate(spec.Child("channelTemplate"))
	if len(c.Spec.Subscribers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("subscribers"), "make a Subscription instead"))
	}
	return append(errs, c.Spec.Delivery.Validate(spec.Child("delivery"))...)
}

// UntypedSpec points to the spec.
func (c *Channel) UntypedSpec() any { return &c.Spec }
