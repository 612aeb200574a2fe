package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	"ebb.dev/ebb/apis/settings"
)

// ApiServerSource sends an event for each change of objects in the API server.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/source=true"
// +kubebuilder:metadata:labels="eventing.knative.dev/source=true"
// +kubebuilder:metadata:annotations="registry.knative.dev/eventTypes=[{\"type\": \"dev.knative.apiserver.resource.add\"}, {\"type\": \"dev.knative.apiserver.resource.delete\"}, {\"type\": \"dev.knative.apiserver.resource.update\"}, {\"type\": \"dev.knative.apiserver.ref.add\"}, {\"type\": \"dev.knative.apiserver.ref.delete\"}, {\"type\": \"dev.knative.apiserver.ref.update\"}]"
// +kubebuilder:resource:path=apiserversources,singular=apiserversource,categories=all;knative;sources
// +kubebuilder:printcolumn:name="Sink",type=string,JSONPath=`.status.sinkUri`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type ApiServerSource struct { //nolint:revive,staticcheck // the kind is spelled so
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec ApiServerSourceSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status ApiServerSourceStatus `json:"status,omitzero"`
}

// ApiServerSourceList is a list of ApiServerSources.
//
// +kubebuilder:object:root=true
type ApiServerSourceList struct { //nolint:revive,staticcheck // the kind is spelled so
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ApiServerSource `json:"items"`
}

// ApiServerSourceSpec says which objects are watched.
type ApiServerSourceSpec struct { //nolint:revive,staticcheck // the kind is spelled so
	duck.SourceSpec `json:",inline"`

	// Resources are the kinds of objects.
	// +listType=atomic
	Resources []APIVersionKindSelector `json:"resources"`
	// ResourceOwner: only objects that one of this kind controls.
	// +optional
	ResourceOwner *APIVersionKind `json:"owner,omitempty"`
	// EventMode is Reference (an event names the object), which is the default, or Resource (it has the object).
	// +optional
	EventMode string `json:"mode,omitempty"`
	// ServiceAccountName is the account of the namespace whose permissions count.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// NamespaceSelector is of the namespaces that are watched; only the source's own where it is left out.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// Filters all have to hold for an event to be sent.
	// +optional
	// +listType=atomic
	Filters []duck.SubscriptionsAPIFilter `json:"filters,omitempty"`
}

// APIVersionKind is a kind of objects.
type APIVersionKind struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// APIVersionKindSelector is a kind of objects and labels that they have.
type APIVersionKindSelector struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// LabelSelector of the objects.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ApiServerSourceStatus is what Ebb has seen of an ApiServerSource.
type ApiServerSourceStatus struct { //nolint:revive,staticcheck // the kind is spelled so
	duck.SourceStatus `json:",inline"`

	// Namespaces that are watched; one "" is all.
	// +optional
	// +listType=atomic
	Namespaces []string `json:"namespaces,omitempty"`
}

// Modes of an ApiServerSource.
const (
	ReferenceMode = "Reference"
	ResourceMode  = "Resource"
)

// SufficientPermissions is an ApiServerSource's condition: its service account may list and watch what it names.
const SufficientPermissions = "SufficientPermissions"

// ApiServerSourceDependents are the conditions that decide an ApiServerSource's Ready.
func ApiServerSourceDependents() []string { //nolint:revive,staticcheck // the kind is spelled so
	return []string{duck.SinkProvided, SufficientPermissions, Deployed}
}

const maxResources = 100

// SetDefaults fills in the mode, the account and the namespace of the sink.
func (a *ApiServerSource) SetDefaults(*settings.Settings) {
	if a.Spec.EventMode == "" {
		a.Spec.EventMode = ReferenceMode
	}
	if a.Spec.ServiceAccountName == "" {
		a.Spec.ServiceAccountName = "default"
	}
	a.Spec.SourceSpec.SetDefaults(a.Namespace)
}

// Warnings are none.
func (*ApiServerSource) Warnings() []string { return nil }

// Validate lists what is wrong with an ApiServerSource that is about to be stored.
func (a *ApiServerSource) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := a.Spec.SourceSpec.Validate(spec)
	if m := a.Spec.EventMode; m != "" && m != ReferenceMode && m != ResourceMode {
		errs = append(errs, field.NotSupported(spec.Child("mode"), m, []string{ReferenceMode, ResourceMode}))
	}
	switch n := len(a.Spec.Resources); {
	case n == 0:
		errs = append(errs, field.Required(spec.Child("resources"), "at least one kind of objects"))
	case n > maxResources:
		return append(errs, field.TooMany(spec.Child("resources"), n, maxResources))
	}
	for i, r := range a.Spec.Resources {
		at := spec.Child("resources").Index(i)
		errs = append(errs, kind(r.APIVersion, r.Kind, at)...)
		errs = append(errs, selector(r.LabelSelector, at.Child("selector"))...)
	}
	if o := a.Spec.ResourceOwner; o != nil {
		errs = append(errs, kind(o.APIVersion, o.Kind, spec.Child("owner"))...)
	}
	if n := a.Spec.ServiceAccountName; n != "" {
		if wrong := validation.IsDNS1123Subdomain(n); len(wrong) > 0 {
			errs = append(errs, field.Invalid(spec.Child("serviceAccountName"), n, wrong[0]))
		}
	}
	errs = append(errs, selector(a.Spec.NamespaceSelector, spec.Child("namespaceSelector"))...)
	return append(errs, duck.ValidateFilters(a.Spec.Filters, spec.Child("filters"))...)
}

func kind(apiVersion, name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if gv, err := schema.ParseGroupVersion(apiVersion); err != nil || gv.Version == "" {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), apiVersion, "must be GROUP/VERSION, or VERSION of the core group"))
	}
	if name == "" {
		errs = append(errs, field.Required(path.Child("kind"), "the kind of the objects, like Pod"))
	}
	return errs
}

func selector(s *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, err.Error())}
	}
	return nil
}

// UntypedSpec points to the spec.
func (a *ApiServerSource) UntypedSpec() any { return &a.Spec }
