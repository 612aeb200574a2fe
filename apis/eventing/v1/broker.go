package v1

import (
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Broker takes events, stores them, and gives them to the Triggers that name it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/addressable=true"
// +kubebuilder:resource:path=brokers,singular=broker,categories=all;knative;eventing
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.address.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Broker struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec BrokerSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status BrokerStatus `json:"status,omitzero"`
}

// BrokerList is a list of Brokers.
//
// +kubebuilder:object:root=true
type BrokerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Broker `json:"items"`
}

// BrokerSpec is how events are kept and delivered.
type BrokerSpec struct {
	// Config is for Brokers of other classes; Ebb takes its settings from ConfigMap config-ebb-eventing.
	// +optional
	Config *duck.KReference `json:"config,omitempty"`
	// Delivery is that of Triggers which do not say otherwise, field by field.
	// +optional
	Delivery *duck.DeliverySpec `json:"delivery,omitempty"`
}

// BrokerStatus is what Ebb has seen of a Broker.
type BrokerStatus struct {
	serving.Status `json:",inline"`

	duck.AddressStatus `json:",inline"`

	duck.DeliveryStatus `json:",inline"`

	duck.AppliedEventPoliciesStatus `json:",inline"`
}

// Conditions of a Broker.
const (
	// Addressable: there is an address.
	Addressable = "Addressable"
	// TopicReady: the store of events has a topic for it, with the limits of now.
	TopicReady = "TopicReady"
	// DeadLetterSinkResolved: the dead-letter sink has an address, or there is none.
	DeadLetterSinkResolved = "DeadLetterSinkResolved"
)

// BrokerDependents are the conditions that decide a Broker's Ready.
func BrokerDependents() []string { return []string{TopicReady, DeadLetterSinkResolved, Addressable} }

// Reasons of the conditions of Brokers, Triggers and the other kinds of eventing.
const (
	ReasonNotResolved              = "NotResolved"
	ReasonStoreUnavailable         = "StoreUnavailable"
	ReasonStoreRefused             = "StoreRefused"
	ReasonDeadLetterSinkNotGiven   = "DeadLetterSinkNotConfigured"
	ReasonDeadLetterSinkUnresolved = "DeadLetterSinkNotResolved"
	ReasonDeleting                 = "Deleting"
	ReasonBrokerMissing            = "BrokerDoesNotExist"
	ReasonBrokerNotReady           = "BrokerNotReady"
	ReasonFilterInvalid            = "FilterInvalid"
	ReasonNotReady                 = "NotReady"
	ReasonDependencyMissing        = "DependencyDoesNotExist"
	ReasonDependencyNotReady       = "DependencyNotReady"
	ReasonAnnotationInvalid        = "AnnotationInvalid"
)

// SetDefaults fills in the namespaces of references.
func (b *Broker) SetDefaults(*settings.Settings) {
	b.Spec.Config.SetDefaults(b.Namespace)
	b.Spec.Delivery.SetDefaults(b.Namespace)
}

// Warnings are about what has no effect.
func (b *Broker) Warnings() []string {
	if b.Spec.Config != nil && eventing.Ours(b.Annotations) {
		return []string{"spec.config has no effect: the settings of Brokers are in ConfigMap " + settings.ConfigEventing}
	}
	return nil
}

// Validate lists what is wrong with a Broker that is about to be stored.
func (b *Broker) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if b.Spec.Config != nil {
		errs = append(errs, b.Spec.Config.Validate(spec.Child("config"))...)
	}
	return append(errs, b.Spec.Delivery.Validate(spec.Child("delivery"))...)
}

// ValidateChange lists what may not change.
func (b *Broker) ValidateChange(old runtime.Object) field.ErrorList {
	was, ok := old.(*Broker)
	if !ok {
		return nil
	}
	var errs field.ErrorList
	if !eventing.Ours(b.Annotations) || !eventing.Ours(was.Annotations) {
		if key := eventing.BrokerClassAnnotation; b.Annotations[key] != was.Annotations[key] {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations").Key(key), "cannot be changed: delete the Broker and make it anew"))
		}
		if !equality.Semantic.DeepEqual(b.Spec.Config, was.Spec.Config) {
			errs = append(errs, field.Forbidden(field.NewPath("spec", "config"), "cannot be changed: delete the Broker and make it anew"))
		}
	}
	return errs
}

// UntypedSpec points to the spec.
func (b *Broker) UntypedSpec() any { return &b.Spec }
