// Package settings holds what an operator sets for the whole platform: the ConfigMaps
// config-autoscaler, -defaults, -network, -domain, -gc, -deployment and -features as
// typed values with their defaults, and what is computed from them alone: host names
// and URLs of a Route, and the scaling of one Revision from its annotations.
//
// In comes the data of a ConfigMap (Store.Update, by the settings controller); out
// goes an immutable snapshot (Store.Load). A ConfigMap with a bad value or an unknown
// key changes nothing: its last good settings stay, and the error names the ConfigMap
// and the key. Every package may call Load; only one place calls Update.
package settings
