// Package v1 holds Sequence and Parallel of the public API group flows.knative.dev: Channels
// and Subscriptions that are made for the user.
//
// In come objects decoded from the API server; out go the same with defaults filled in
// (SetDefaults) and a list of what is wrong with them (Validate). Everything is a value or a pure function.
//
// +kubebuilder:object:generate=true
// +groupName=flows.knative.dev
package v1
