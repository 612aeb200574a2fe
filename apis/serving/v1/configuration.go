package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Configuration is a template and the line of Revisions made from it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=configurations,singular=configuration,shortName=config;cfg,categories=all;knative;serving
// +kubebuilder:printcolumn:name="LatestCreated",type=string,JSONPath=`.status.latestCreatedRevisionName`
// +kubebuilder:printcolumn:name="LatestReady",type=string,JSONPath=`.status.latestReadyRevisionName`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Configuration struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec ConfigurationSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status ConfigurationStatus `json:"status,omitzero"`
}

// ConfigurationList is a list of Configurations.
//
// +kubebuilder:object:root=true
type ConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Configuration `json:"items"`
}

// ConfigurationSpec is the template of the Revisions.
type ConfigurationSpec struct {
	// Template of the next Revision; each change of it makes one.
	// +optional
	Template RevisionTemplateSpec `json:"template,omitzero"`
}

// ConfigurationStatus is what Ebb has seen of a Configuration.
type ConfigurationStatus struct {
	Status `json:",inline"`

	ConfigurationStatusFields `json:",inline"`
}

// ConfigurationStatusFields is the part of a Configuration's status that its Service shows too.
type ConfigurationStatusFields struct {
	// LatestReadyRevisionName is the newest Revision that has been Ready.
	// +optional
	LatestReadyRevisionName string `json:"latestReadyRevisionName,omitempty"`
	// LatestCreatedRevisionName is the newest Revision.
	// +optional
	LatestCreatedRevisionName string `json:"latestCreatedRevisionName,omitempty"`
}

// Reasons of a Configuration's Ready.
const (
	ReasonRevisionFailed  = "RevisionFailed"
	ReasonRevisionDeleted = "RevisionDeleted"
)
