// Package pki makes the keys, certificates and kubeconfigs that the parts of the
// embedded platform need to trust each other, and renews them before they expire. What
// comes in is a folder and a list of certificates; what goes out are PEM files.
// `ebb up` is its caller.
package pki
