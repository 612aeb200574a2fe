// Package v1beta2 holds EventType of the public API group eventing.knative.dev: what kind of event can be had where.
//
// +kubebuilder:object:generate=true
// +groupName=eventing.knative.dev
package v1beta2
