// Package v1beta1 holds DomainMapping of the public API group serving.knative.dev: a
// host name of the user's own for a Service or a Route.
//
// In come objects decoded from the API server; out go the same with defaults filled in
// (SetDefaults) and a list of what is wrong with them (Validate). Everything is a value or a
// pure function. Conditions and addresses are those of apis/serving/v1.
//
// +kubebuilder:object:generate=true
// +groupName=serving.knative.dev
package v1beta1
