// Package duck holds what the kinds of eventing have in common: references and
// destinations, addresses, delivery, filters, and what every source has, as the public API
// spells them.
//
// In come parts of objects; out go the same with defaults (SetDefaults) and a list of what
// is wrong with them (Validate). Everything is a value or a pure function.
//
// +kubebuilder:object:generate=true
package duck
