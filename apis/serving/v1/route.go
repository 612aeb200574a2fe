package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Route gives Revisions a host name and shares the traffic between them.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=routes,singular=route,shortName=rt,categories=all;knative;serving
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type Route struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec RouteSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status RouteStatus `json:"status,omitzero"`
}

// RouteList is a list of Routes.
//
// +kubebuilder:object:root=true
type RouteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Route `json:"items"`
}

// RouteSpec says where traffic goes.
type RouteSpec struct {
	// Traffic is shared between these targets; their percents sum to 100.
	// +optional
	// +listType=atomic
	Traffic []TrafficTarget `json:"traffic,omitempty"`
}

// TrafficTarget is one share of a Route's traffic, a host name of its own, or both.
type TrafficTarget struct {
	// Tag gives this target a host name of its own.
	// +optional
	Tag string `json:"tag,omitempty"`
	// RevisionName is a fixed Revision.
	// +optional
	RevisionName string `json:"revisionName,omitempty"`
	// ConfigurationName follows the latest ready Revision of a Configuration.
	// +optional
	ConfigurationName string `json:"configurationName,omitempty"`
	// LatestRevision is true where the target follows a Configuration and false where
	// it is a fixed Revision.
	// +optional
	LatestRevision *bool `json:"latestRevision,omitempty"`
	// Percent of the traffic, 0..100, whole.
	// +optional
	Percent *int64 `json:"percent,omitempty"`
	// URL of the tag; shown in a status, not allowed in a spec.
	// +optional
	URL string `json:"url,omitempty"`
}

// RouteStatus is what Ebb has seen of a Route.
type RouteStatus struct {
	Status `json:",inline"`

	RouteStatusFields `json:",inline"`
}

// RouteStatusFields is the part of a Route's status that its Service shows too.
type RouteStatusFields struct {
	// URL under which the traffic is reached: scheme, host, and port where one is needed.
	// +optional
	URL string `json:"url,omitempty"`
	// Address is the same for callers inside the cluster.
	// +optional
	Address *Addressable `json:"address,omitempty"`
	// Traffic as it is served: revisionName is always set.
	// +optional
	// +listType=atomic
	Traffic []TrafficTarget `json:"traffic,omitempty"`
}

// Addressable is where something can be called.
type Addressable struct {
	// Name tells several addresses of one object apart.
	// +optional
	Name *string `json:"name,omitempty"`
	// +optional
	URL string `json:"url,omitempty"`
	// CACerts is PEM: what the address' certificate is verified against.
	// +optional
	CACerts *string `json:"CACerts,omitempty"`
	// Audience of the tokens the address takes.
	// +optional
	Audience *string `json:"audience,omitempty"`
}

// Conditions of a Route.
const (
	// RouteAllTrafficAssigned: every target of the spec is there and takes its share.
	RouteAllTrafficAssigned = "AllTrafficAssigned"
	// RouteIngressReady: every connected gateway has acknowledged the configuration.
	RouteIngressReady = "IngressReady"
	// RouteCertificateProvisioned: the certificate of the external host is there, or none is wanted.
	RouteCertificateProvisioned = "CertificateProvisioned"
)

// RouteDependents are the conditions that decide a Route's Ready.
func RouteDependents() []string {
	return []string{RouteAllTrafficAssigned, RouteIngressReady, RouteCertificateProvisioned}
}

// Reasons of a Route's conditions.
const (
	ReasonRolloutInProgress          = "RolloutInProgress"
	ReasonIngressNotConfigured       = "IngressNotConfigured"
	ReasonRevisionMissing            = "RevisionMissing"
	ReasonRevisionNotOwned           = "RevisionNotOwned"
	ReasonConfigurationMissing       = "ConfigurationMissing"
	ReasonUnknown                    = "Unknown"
	ReasonTLSNotEnabled              = "TLSNotEnabled"
	ReasonCertificateProvisionFailed = "CertificateProvisionFailed"
	ReasonCertificateNotReady        = "CertificateNotReady"
	ReasonHTTPDowngrade              = "HTTPDowngrade"
	// ReasonNoGateway, ReasonProgramming and ReasonRejected are Ebb's own, of IngressReady.
	ReasonNoGateway   = "NoGateway"
	ReasonProgramming = "Programming"
	ReasonRejected    = "Rejected"
)
