package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Revision is one immutable version of code and configuration that can take traffic.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=revisions,singular=revision,shortName=rev,categories=all;knative;serving
// +kubebuilder:printcolumn:name="Config Name",type=string,JSONPath=`.metadata.labels['serving\.knative\.dev/configuration']`
// +kubebuilder:printcolumn:name="Generation",type=string,JSONPath=`.metadata.labels['serving\.knative\.dev/configurationGeneration']`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
// +kubebuilder:printcolumn:name="Actual Replicas",type=integer,JSONPath=`.status.actualReplicas`
// +kubebuilder:printcolumn:name="Desired Replicas",type=integer,JSONPath=`.status.desiredReplicas`
type Revision struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// Spec is what runs; it never changes after creation.
	// +optional
	Spec RevisionSpec `json:"spec,omitzero"`
	// Status is what Ebb has seen of it.
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status RevisionStatus `json:"status,omitzero"`
}

// RevisionList is a list of Revisions.
//
// +kubebuilder:object:root=true
type RevisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Revision `json:"items"`
}

// RevisionTemplateSpec is what a Configuration makes its Revisions from.
type RevisionTemplateSpec struct {
	// Metadata of the Revisions: labels, annotations and, when it is given, the name.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// Spec of the Revisions.
	// +optional
	Spec RevisionSpec `json:"spec,omitzero"`
}

// RevisionSpec is a pod's spec and the limits of a request.
type RevisionSpec struct {
	// A pod's spec. Its fields are checked at admission, strictly and by name, and not
	// by the schema, which would be some thousand lines in each kind.
	//
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	corev1.PodSpec `json:",inline"`

	// ContainerConcurrency is the number of requests a pod handles at the same time,
	// 0..1000; 0 is no limit.
	// +optional
	ContainerConcurrency *int64 `json:"containerConcurrency,omitempty"`
	// TimeoutSeconds is how long a request may take until its response is complete.
	// +optional
	TimeoutSeconds *int64 `json:"timeoutSeconds,omitempty"`
	// ResponseStartTimeoutSeconds is how long a request may take until its response
	// begins; TimeoutSeconds when it is not given.
	// +optional
	ResponseStartTimeoutSeconds *int64 `json:"responseStartTimeoutSeconds,omitempty"`
	// IdleTimeoutSeconds is how long a request may go without a byte in either
	// direction; 0 is for ever.
	// +optional
	IdleTimeoutSeconds *int64 `json:"idleTimeoutSeconds,omitempty"`
}

// RevisionStatus is what Ebb has seen of a Revision.
type RevisionStatus struct {
	Status `json:",inline"`

	// LogURL is where the logs of this Revision are, when a template for that is set.
	// +optional
	LogURL string `json:"logUrl,omitempty"`
	// ContainerStatuses holds the image digest each container runs with.
	// +optional
	// +listType=map
	// +listMapKey=name
	ContainerStatuses []ContainerStatus `json:"containerStatuses,omitempty"`
	// InitContainerStatuses is the same for the init containers.
	// +optional
	// +listType=map
	// +listMapKey=name
	InitContainerStatuses []ContainerStatus `json:"initContainerStatuses,omitempty"`
	// ActualReplicas is the number of ready pods.
	// +optional
	ActualReplicas *int32 `json:"actualReplicas,omitempty"`
	// DesiredReplicas is the number of pods the autoscaler wishes for.
	// +optional
	DesiredReplicas *int32 `json:"desiredReplicas,omitempty"`
}

// ContainerStatus says which image a container runs.
type ContainerStatus struct {
	// +kubebuilder:validation:Required
	Name string `json:"name,omitempty"`
	// ImageDigest is the image by digest; empty where tags are not resolved.
	// +optional
	ImageDigest string `json:"imageDigest,omitempty"`
}

// Conditions of a Revision.
const (
	// RevisionResourcesAvailable: its Deployment could be made and made progress.
	RevisionResourcesAvailable = "ResourcesAvailable"
	// RevisionContainerHealthy: its containers start and get ready.
	RevisionContainerHealthy = "ContainerHealthy"
	// RevisionActive: it has pods. It says nothing about Ready.
	RevisionActive = "Active"
)

// RevisionDependents are the conditions that decide a Revision's Ready.
func RevisionDependents() []string {
	return []string{RevisionResourcesAvailable, RevisionContainerHealthy}
}

// Reasons of a Revision's conditions.
const (
	ReasonContainerMissing         = "ContainerMissing"
	ReasonResolvingDigests         = "ResolvingDigests"
	ReasonDeploying                = "Deploying"
	ReasonNotOwned                 = "NotOwned"
	ReasonProgressDeadlineExceeded = "ProgressDeadlineExceeded"
	// ReasonExitCode is followed by the decimal exit code: ExitCode1.
	ReasonExitCode  = "ExitCode"
	ReasonNoTraffic = "NoTraffic"
	ReasonQueued    = "Queued"
	ReasonTimedOut  = "TimedOut"
)
