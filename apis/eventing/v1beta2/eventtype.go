package v1beta2

import (
	"net/url"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// GroupVersion is eventing.knative.dev/v1beta2.
var GroupVersion = schema.GroupVersion{Group: eventing.GroupName, Version: "v1beta2"}

// KindEventType is the only kind of the version.
const KindEventType = "EventType"

// AddToScheme registers the kind and its list.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &EventType{}, &EventTypeList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// EventType is a type of event that can be had from a Broker or another addressable.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=eventtypes,singular=eventtype,categories=all;knative;eventing
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.source`
// +kubebuilder:printcolumn:name="Schema",type=string,JSONPath=`.spec.schema`
// +kubebuilder:printcolumn:name="Reference Name",type=string,JSONPath=`.spec.reference.name`
// +kubebuilder:printcolumn:name="Reference Kind",type=string,JSONPath=`.spec.reference.kind`
// +kubebuilder:printcolumn:name="Description",type=string,JSONPath=`.spec.description`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type EventType struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec EventTypeSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status EventTypeStatus `json:"status,omitzero"`
}

// EventTypeList is a list of EventTypes.
//
// +kubebuilder:object:root=true
type EventTypeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []EventType `json:"items"`
}

// EventTypeSpec describes the events.
type EventTypeSpec struct {
	// Type of the events.
	Type string `json:"type"`
	// Source of the events, a URI.
	// +optional
	Source string `json:"source,omitempty"`
	// Schema of their data, a URI.
	// +optional
	Schema string `json:"schema,omitempty"`
	// SchemaData is the schema itself.
	// +optional
	SchemaData string `json:"schemaData,omitempty"`
	// Broker of the namespace that has the events; reference says the same and more.
	// +optional
	Broker string `json:"broker,omitempty"`
	// Reference is what has the events.
	// +optional
	Reference *duck.KReference `json:"reference,omitempty"`
	// Description for people.
	// +optional
	Description string `json:"description,omitempty"`
}

// EventTypeStatus is what Ebb has seen of an EventType.
type EventTypeStatus struct {
	serving.Status `json:",inline"`
}

// ReferenceExists is the condition that decides an EventType's Ready.
const ReferenceExists = "ReferenceExists"

// Dependents are the conditions that decide an EventType's Ready.
func Dependents() []string { return []string{ReferenceExists} }

// ReasonReferenceMissing is ReferenceExists' reason.
const ReasonReferenceMissing = "ResourceDoesNotExist"

// SetDefaults makes broker the reference that it is short for.
func (t *EventType) SetDefaults(*settings.Settings) {
	if t.Spec.Reference == nil && t.Spec.Broker != "" {
		t.Spec.Reference = &duck.KReference{APIVersion: eventing.GroupName + "/v1", Kind: "Broker", Name: t.Spec.Broker}
	}
	t.Spec.Reference.SetDefaults(t.Namespace)
}

// Warnings are none.
func (*EventType) Warnings() []string { return nil }

// Validate lists what is wrong with an EventType that is about to be stored.
func (t *EventType) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if t.Spec.Type == "" {
		errs = append(errs, field.Required(spec.Child("type"), "the type of the events, like com.example.order.created"))
	}
	for _, of := range []struct{ name, value string }{{"source", t.Spec.Source}, {"schema", t.Spec.Schema}} {
		if _, err := url.Parse(of.value); err != nil {
			errs = append(errs, field.Invalid(spec.Child(of.name), of.value, "is not a URI"))
		}
	}
	if t.Spec.Reference != nil {
		errs = append(errs, t.Spec.Reference.Validate(spec.Child("reference"))...)
	}
	return errs
}

// ValidateChange lists what may not change: all but the description.
func (t *EventType) ValidateChange(old runtime.Object) field.ErrorList {
	was, ok := old.(*EventType)
	if !ok {
		return nil
	}
	a, b := was.Spec, t.Spec
	a.Description, b.Description = "", ""
	if equality.Semantic.DeepEqual(a, b) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec"), "cannot be changed but for the description: delete the EventType and make it anew")}
}

// UntypedSpec points to the spec.
func (t *EventType) UntypedSpec() any { return &t.Spec }
