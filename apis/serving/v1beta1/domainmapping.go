package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// DomainMapping serves a Service or a Route of its namespace under the host name that is its own name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=domainmappings,singular=domainmapping,shortName=dm,categories=all;knative;serving
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type DomainMapping struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec DomainMappingSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status DomainMappingStatus `json:"status,omitzero"`
}

// DomainMappingList is a list of DomainMappings.
//
// +kubebuilder:object:root=true
type DomainMappingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []DomainMapping `json:"items"`
}

// DomainMappingSpec says what the host leads to.
type DomainMappingSpec struct {
	// Ref is the Service or the Route, in the namespace of the DomainMapping.
	Ref KReference `json:"ref"`
	// TLS names the certificate of the host.
	// +optional
	TLS *SecretTLS `json:"tls,omitempty"`
}

// KReference names an object.
type KReference struct {
	// Kind of the object: Service or Route.
	Kind string `json:"kind"`
	// Namespace of the object; the DomainMapping's own.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Name of the object.
	Name string `json:"name"`
	// APIVersion of the object: serving.knative.dev/v1.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// Group of the object, where apiVersion is left out.
	// +optional
	Group string `json:"group,omitempty"`
	// Address is the name of one of the object's addresses.
	// +optional
	Address *string `json:"address,omitempty"`
}

// SecretTLS names a Secret of type kubernetes.io/tls.
type SecretTLS struct {
	// SecretName is its name, in the namespace of the DomainMapping.
	SecretName string `json:"secretName"`
}

// DomainMappingStatus is what Ebb has seen of a DomainMapping.
type DomainMappingStatus struct {
	v1.Status `json:",inline"`

	// URL under which the target is reached: https where there is a certificate.
	// +optional
	URL string `json:"url,omitempty"`
	// Address is the same, for those who send to an object.
	// +optional
	Address *v1.Addressable `json:"address,omitempty"`
}

// Conditions of a DomainMapping.
const (
	// ReferenceResolved: the object that spec.ref names is there and has traffic.
	ReferenceResolved = "ReferenceResolved"
	// IngressReady: every connected gateway has acknowledged the configuration.
	IngressReady = "IngressReady"
	// DomainClaimed: the ClusterDomainClaim of the host is for this namespace.
	DomainClaimed = "DomainClaimed"
	// CertificateProvisioned: the certificate of the host is there, or none is wanted.
	CertificateProvisioned = "CertificateProvisioned"
)

// Dependents are the conditions that decide a DomainMapping's Ready.
func Dependents() []string {
	return []string{DomainClaimed, ReferenceResolved, CertificateProvisioned, IngressReady}
}

// Reasons of a DomainMapping's conditions, beside those of apis/serving/v1.
const (
	ReasonResolveFailed                 = "ResolveFailed"
	ReasonDomainAlreadyClaimed          = "DomainAlreadyClaimed"
	ReasonDomainClaimFailed             = "DomainClaimFailed"
	ReasonCertificateExternallyProvided = "CertificateExternallyProvided"
	ReasonCertificateNotOwned           = "CertificateNotOwned"
)
