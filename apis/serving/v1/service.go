package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Service is the one object to write: it owns a Configuration and a Route of its name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=services,singular=service,shortName=kservice;ksvc,categories=all;knative;serving
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="LatestCreated",type=string,JSONPath=`.status.latestCreatedRevisionName`
// +kubebuilder:printcolumn:name="LatestReady",type=string,JSONPath=`.status.latestReadyRevisionName`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Service struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec ServiceSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status ServiceStatus `json:"status,omitzero"`
}

// ServiceList is a list of Services.
//
// +kubebuilder:object:root=true
type ServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Service `json:"items"`
}

// ServiceSpec is the spec of its Configuration and of its Route in one.
type ServiceSpec struct {
	ConfigurationSpec `json:",inline"`

	// RouteSpec's targets refer to this Service's own Configuration: configurationName
	// is not allowed here.
	RouteSpec `json:",inline"`
}

// ServiceStatus is what Ebb has seen of a Service.
type ServiceStatus struct {
	Status `json:",inline"`

	ConfigurationStatusFields `json:",inline"`

	RouteStatusFields `json:",inline"`
}

// Conditions of a Service.
const (
	// ServiceConfigurationsReady is its Configuration's Ready.
	ServiceConfigurationsReady = "ConfigurationsReady"
	// ServiceRoutesReady is its Route's Ready.
	ServiceRoutesReady = "RoutesReady"
)

// ServiceDependents are the conditions that decide a Service's Ready.
func ServiceDependents() []string {
	return []string{ServiceConfigurationsReady, ServiceRoutesReady}
}

// Reasons of a Service's conditions.
const (
	ReasonOutOfDate          = "OutOfDate"
	ReasonTrafficNotMigrated = "TrafficNotMigrated"
	ReasonRevisionNameTaken  = "RevisionNameTaken"
)
