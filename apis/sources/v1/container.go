package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	"ebb.dev/ebb/apis/settings"
)

// ContainerSource runs containers that send events to the address in $K_SINK.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/source=true"
// +kubebuilder:metadata:labels="eventing.knative.dev/source=true"
// +kubebuilder:resource:path=containersources,singular=containersource,categories=all;knative;sources
// +kubebuilder:printcolumn:name="Sink",type=string,JSONPath=`.status.sinkUri`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type ContainerSource struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec ContainerSourceSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status ContainerSourceStatus `json:"status,omitzero"`
}

// ContainerSourceList is a list of ContainerSources.
//
// +kubebuilder:object:root=true
type ContainerSourceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ContainerSource `json:"items"`
}

// ContainerSourceSpec says what runs.
type ContainerSourceSpec struct {
	duck.SourceSpec `json:",inline"`

	// Template of the pod. Its fields are checked by the API server when the Deployment is made.
	//
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Template corev1.PodTemplateSpec `json:"template"`
}

// ContainerSourceStatus is what Ebb has seen of a ContainerSource.
type ContainerSourceStatus struct {
	duck.SourceStatus `json:",inline"`
}

// ReceiveAdapterReady is a ContainerSource's condition: its Deployment is available.
const ReceiveAdapterReady = "ReceiveAdapterReady"

// ContainerSourceDependents are the conditions that decide a ContainerSource's Ready.
func ContainerSourceDependents() []string { return []string{duck.SinkProvided, ReceiveAdapterReady} }

// SetDefaults names containers without a name and fills in the namespace of the sink.
func (c *ContainerSource) SetDefaults(*settings.Settings) {
	for i := range c.Spec.Template.Spec.Containers {
		if one := &c.Spec.Template.Spec.Containers[i]; one.Name == "" && len(c.Spec.Template.Spec.Containers) == 1 {
			one.Name = "source"
		}
	}
	c.Spec.SourceSpec.SetDefaults(c.Namespace)
}

// Warnings are none.
func (*ContainerSource) Warnings() []string { return nil }

// Validate lists what is wrong with a ContainerSource that is about to be stored.
func (c *ContainerSource) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := c.Spec.SourceSpec.Validate(spec)
	containers := spec.Child("template", "spec", "containers")
	if len(c.Spec.Template.Spec.Containers) == 0 {
		errs = append(errs, field.Required(containers, "at least one container"))
	}
	for i, one := range c.Spec.Template.Spec.Containers {
		if one.Name == "" {
			errs = append(errs, field.Required(containers.Index(i).Child("name"), "each of several containers has a name"))
		}
		if one.Image == "" {
			errs = append(errs, field.Required(containers.Index(i).Child("image"), "the image to run"))
		}
	}
	return errs
}

// UntypedSpec points to the spec.
func (c *ContainerSource) UntypedSpec() any { return &c.Spec }
