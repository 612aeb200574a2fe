// Package v1 holds Channel and Subscription of the public API group messaging.knative.dev.
//
// In come objects decoded from the API server; out go the same with defaults filled in
// (SetDefaults) and a list of what is wrong with them (Validate, and ValidateChange for what
// may not change). Everything is a value or a pure function.
//
// +kubebuilder:object:generate=true
// +groupName=messaging.knative.dev
package v1
