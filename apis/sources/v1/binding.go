package v1

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	"ebb.dev/ebb/apis/settings"
)

// SinkBinding gives the containers of its subject the address of a sink in $K_SINK.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/source=true"
// +kubebuilder:metadata:labels="duck.knative.dev/binding=true"
// +kubebuilder:metadata:labels="eventing.knative.dev/source=true"
// +kubebuilder:resource:path=sinkbindings,singular=sinkbinding,categories=all;knative;sources;bindings
// +kubebuilder:printcolumn:name="Sink",type=string,JSONPath=`.status.sinkUri`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type SinkBinding struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec SinkBindingSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status SinkBindingStatus `json:"status,omitzero"`
}

// SinkBindingList is a list of SinkBindings.
//
// +kubebuilder:object:root=true
type SinkBindingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []SinkBinding `json:"items"`
}

// SinkBindingSpec says who gets which sink.
type SinkBindingSpec struct {
	duck.SourceSpec `json:",inline"`

	// Subject is what has the pod template: one object by name, or several by labels.
	Subject Subject `json:"subject"`
}

// Subject names objects that have a pod template.
type Subject struct {
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// Namespace is the SinkBinding's own.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Name of the object, or selector.
	// +optional
	Name string `json:"name,omitempty"`
	// Selector of the objects, or name.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// SinkBindingStatus is what Ebb has seen of a SinkBinding.
type SinkBindingStatus struct {
	duck.SourceStatus `json:",inline"`

	// +optional
	OIDCTokenSecretName *string `json:"oidcTokenSecretName,omitempty"`
}

// Available is a SinkBinding's condition: the subject has the address.
const Available = "Available"

// SinkBindingDependents are the conditions that decide a SinkBinding's Ready.
func SinkBindingDependents() []string { return []string{duck.SinkProvided, Available} }

// SetDefaults fills in the namespaces of sink and subject.
func (b *SinkBinding) SetDefaults(*settings.Settings) {
	if b.Spec.Subject.Namespace == "" {
		b.Spec.Subject.Namespace = b.Namespace
	}
	b.Spec.SourceSpec.SetDefaults(b.Namespace)
}

// Warnings are none.
func (*SinkBinding) Warnings() []string { return nil }

// Validate lists what is wrong with a SinkBinding that is about to be stored.
func (b *SinkBinding) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := b.Spec.SourceSpec.Validate(spec)
	subject, s := spec.Child("subject"), b.Spec.Subject
	errs = append(errs, kind(s.APIVersion, s.Kind, subject)...)
	switch {
	case s.Name == "" && s.Selector == nil:
		errs = append(errs, field.Required(subject.Child("name"), "give name or selector"))
	case s.Name != "" && s.Selector != nil:
		errs = append(errs, field.Forbidden(subject.Child("selector"), "name is given already"))
	case s.Name != "":
		if wrong := validation.IsDNS1123Subdomain(s.Name); len(wrong) > 0 {
			errs = append(errs, field.Invalid(subject.Child("name"), s.Name, wrong[0]))
		}
	default:
		errs = append(errs, selector(s.Selector, subject.Child("selector"))...)
	}
	if n := s.Namespace; n != "" && n != b.Namespace {
		errs = append(errs, field.Invalid(subject.Child("namespace"), n, fmt.Sprintf("must be the namespace of the SinkBinding, %q", b.Namespace)))
	}
	return errs
}

// ValidateChange lists what may not change: the old subject would keep the address.
func (b *SinkBinding) ValidateChange(old runtime.Object) field.ErrorList {
	if was, ok := old.(*SinkBinding); ok && !equality.Semantic.DeepEqual(was.Spec.Subject, b.Spec.Subject) {
		return field.ErrorList{field.Forbidden(field.NewPath("spec", "subject"), "cannot be changed: delete the SinkBinding and make it anew")}
	}
	return nil
}

// UntypedSpec points to the spec.
func (b *SinkBinding) UntypedSpec() any { return &b.Spec }
