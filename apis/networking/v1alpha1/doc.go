// Package v1alpha1 holds ClusterDomainClaim of the API group
// networking.internal.knative.dev: which namespace a domain name is for.
//
// Everything is a value or a pure function, as in apis/serving/v1.
//
// +kubebuilder:object:generate=true
// +groupName=networking.internal.knative.dev
package v1alpha1
