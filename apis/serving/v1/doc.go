// Package v1 holds the kinds that people write to serve something: Service,
// Configuration, Route and Revision of the public API group serving.knative.dev,
// as Go types of Ebb's own that read and write the same JSON.
//
// In come objects decoded from the API server or from a manifest; out go the same
// objects with defaults filled in (SetDefaults), a list of what is wrong with them
// (Validate), and conditions kept by one rule (Conditions). Everything is a value or
// a pure function: no clock but the one handed in, no client, no context. Every
// other package may import it.
//
// +kubebuilder:object:generate=true
// +groupName=serving.knative.dev
package v1
