// Package v1 holds Broker and Trigger of the public API group eventing.knative.dev.
//
// In come objects decoded from the API server; out go the same with defaults filled in
// (SetDefaults) and a list of what is wrong with them (Validate, and ValidateChange for what
// may not change). Everything is a value or a pure function. Conditions and addresses are
// those of apis/serving/v1.
//
// +kubebuilder:object:generate=true
// +groupName=eventing.knative.dev
package v1
