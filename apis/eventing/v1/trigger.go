package v1

import (
	"encoding/json"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Trigger sends the events of a Broker that pass its filter to a subscriber.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=triggers,singular=trigger,categories=all;knative;eventing
// +kubebuilder:printcolumn:name="Broker",type=string,JSONPath=`.spec.broker`
// +kubebuilder:printcolumn:name="Subscriber_URI",type=string,JSONPath=`.status.subscriberUri`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Trigger struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec TriggerSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status TriggerStatus `json:"status,omitzero"`
}

// TriggerList is a list of Triggers.
//
// +kubebuilder:object:root=true
type TriggerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Trigger `json:"items"`
}

// TriggerSpec says which events go where.
type TriggerSpec struct {
	// Broker is the name of a Broker in the Trigger's namespace.
	// +optional
	Broker string `json:"broker,omitempty"`
	// BrokerRef names a Broker of another namespace, where Knative's cross-namespace feature is on. Ebb does not have that.
	// +optional
	BrokerRef *duck.KReference `json:"brokerRef,omitempty"`
	// Filter compares attributes; filters is used instead where both are given.
	// +optional
	Filter *TriggerFilter `json:"filter,omitempty"`
	// Filters all have to hold.
	// +optional
	// +listType=atomic
	Filters []duck.SubscriptionsAPIFilter `json:"filters,omitempty"`
	// Subscriber gets the events.
	Subscriber duck.Destination `json:"subscriber"`
	// Delivery is when an event is tried again; what is not said here is said by the Broker.
	// +optional
	Delivery *duck.DeliverySpec `json:"delivery,omitempty"`
}

// TriggerFilter compares attributes.
type TriggerFilter struct {
	// Attributes of an event have to have these values; an empty value is any value.
	// +optional
	Attributes map[string]string `json:"attributes,omitempty"`
}

// TriggerStatus is what Ebb has seen of a Trigger.
type TriggerStatus struct {
	serving.Status `json:",inline"`

	// SubscriberURI is the address of the subscriber. The last good one stays when it cannot be found any more.
	// +optional
	SubscriberURI string `json:"subscriberUri,omitempty"`
	// +optional
	SubscriberCACerts *string `json:"subscriberCACerts,omitempty"`
	// +optional
	SubscriberAudience *string `json:"subscriberAudience,omitempty"`

	duck.DeliveryStatus `json:",inline"`

	// +optional
	Auth *duck.AuthStatus `json:"auth,omitempty"`
}

// Conditions of a Trigger, beside DeadLetterSinkResolved.
const (
	// BrokerReady: the Broker is there and takes events.
	BrokerReady = "BrokerReady"
	// FilterReady: the filter can be evaluated. While it cannot, no event matches.
	FilterReady = "FilterReady"
	// SubscriberResolved: the subscriber is there and has an address.
	SubscriberResolved = "SubscriberResolved"
	// DependencyReady: the object of the dependency annotation is Ready, or there is none.
	DependencyReady = "DependencyReady"
	// SubscriptionReady: the store of events keeps a place for the Trigger.
	SubscriptionReady = "SubscriptionReady"
)

// TriggerDependents are the conditions that decide a Trigger's Ready.
func TriggerDependents() []string {
	return []string{BrokerReady, FilterReady, SubscriberResolved, DependencyReady, DeadLetterSinkResolved, SubscriptionReady}
}

// DefaultBroker is the Broker of a Trigger that names none.
const DefaultBroker = "default"

// SetDefaults fills in the Broker and the namespaces of references.
func (t *Trigger) SetDefaults(*settings.Settings) {
	if t.Spec.Broker == "" && t.Spec.BrokerRef == nil {
		t.Spec.Broker = DefaultBroker
	}
	t.Spec.Subscriber.SetDefaults(t.Namespace)
	t.Spec.Delivery.SetDefaults(t.Namespace)
}

// Warnings are about what has no effect.
func (t *Trigger) Warnings() []string {
	var warnings []string
	if t.Spec.Filter != nil && len(t.Spec.Filter.Attributes) > 0 && len(t.Spec.Filters) > 0 {
		warnings = append(warnings, "spec.filter has no effect where spec.filters is given")
	}
	if t.Annotations[eventing.InjectionAnnotation] == "enabled" {
		warnings = append(warnings, eventing.InjectionAnnotation+" has no effect: make the Broker "+strconv.Quote(t.Spec.Broker))
	}
	return warnings
}

// Validate lists what is wrong with a Trigger that is about to be stored.
func (t *Trigger) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := ValidateDeliveryAnnotations(t.Annotations)
	if t.Spec.BrokerRef != nil {
		errs = append(errs, field.Forbidden(spec.Child("brokerRef"), "is not supported: a Trigger is in the namespace of its Broker, give spec.broker"))
	} else if wrong := validation.IsDNS1123Subdomain(t.Spec.Broker); len(wrong) > 0 {
		errs = append(errs, field.Invalid(spec.Child("broker"), t.Spec.Broker, wrong[0]))
	}
	if t.Spec.Filter != nil {
		errs = append(errs, duck.ValidateAttributes(t.Spec.Filter.Attributes, spec.Child("filter", "attributes"), true)...)
	}
	errs = append(errs, duck.ValidateFilters(t.Spec.Filters, spec.Child("filters"))...)
	errs = append(errs, t.Spec.Subscriber.Validate(spec.Child("subscriber"))...)
	errs = append(errs, t.Spec.Delivery.Validate(spec.Child("delivery"))...)
	if text, ok := t.Annotations[eventing.DependencyAnnotation]; ok {
		if _, err := ParseDependency(text, t.Namespace); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(eventing.DependencyAnnotation), text, err.Error()))
		}
	}
	return errs
}

// ParseDependency reads a DependencyAnnotation.
func ParseDependency(text, namespace string) (*duck.KReference, error) {
	var ref duck.KReference
	if err := json.Unmarshal([]byte(text), &ref); err != nil {
		return nil, fmt.Errorf("must be a JSON object with apiVersion, kind and name: %w", err)
	}
	if errs := ref.Validate(nil); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	if ref.Namespace != "" && ref.Namespace != namespace {
		return nil, fmt.Errorf("the namespace must be that of the Trigger, %q", namespace)
	}
	ref.Namespace = namespace
	return &ref, nil
}

// ValidateDeliveryAnnotations lists what is wrong with the annotations of order and parallelism.
func ValidateDeliveryAnnotations(annotations map[string]string) field.ErrorList {
	path := field.NewPath("metadata", "annotations")
	var errs field.ErrorList
	for _, key := range []string{eventing.DeliveryOrderAnnotation, eventing.KafkaDeliveryOrderAnnotation} {
		if v, ok := annotations[key]; ok && v != eventing.Ordered && v != eventing.Unordered {
			errs = append(errs, field.NotSupported(path.Key(key), v, []string{eventing.Ordered, eventing.Unordered}))
		}
	}
	if v, ok := annotations[eventing.PartitionKeyAnnotation]; ok && !duck.AttributeName(v) {
		errs = append(errs, field.Invalid(path.Key(eventing.PartitionKeyAnnotation), v, "must be the name of an attribute: lower-case letters and digits, a letter first"))
	}
	if v, ok := annotations[eventing.ParallelismAnnotation]; ok {
		if n, err := strconv.Atoi(v); err != nil || n < 1 || n > eventing.MaxParallelism {
			errs = append(errs, field.Invalid(path.Key(eventing.ParallelismAnnotation), v, fmt.Sprintf("must be 1..%d", eventing.MaxParallelism)))
		}
	}
	return errs
}

// ValidateChange lists what may not change.
func (t *Trigger) ValidateChange(old runtime.Object) field.ErrorList {
	if was, ok := old.(*Trigger); ok && was.Spec.Broker != t.Spec.Broker {
		return field.ErrorList{field.Forbidden(field.NewPath("spec", "broker"),
			fmt.Sprintf("cannot be changed (it is %q): delete the Trigger and make it anew", was.Spec.Broker))}
	}
	return nil
}

// UntypedSpec points to the spec.
func (t *Trigger) UntypedSpec() any { return &t.Spec }
