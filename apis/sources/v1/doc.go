// Package v1 holds PingSource, ApiServerSource, ContainerSource and SinkBinding of the public
// API group sources.knative.dev: what makes events and sends them to a sink.
//
// In come objects decoded from the API server; out go the same with defaults filled in
// (SetDefaults) and a list of what is wrong with them (Validate). Everything is a value or a
// pure function; time zones are those of this program, wherever it runs.
//
// +kubebuilder:object:generate=true
// +groupName=sources.knative.dev
package v1
