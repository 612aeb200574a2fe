// Package clients runs programs of others against a platform, as their users do: Helm
// installs, changes, rolls back and removes a chart that carries a Service, and the rules
// by which GitOps controllers and `helm --wait` read an object's state read ours.
//
// It is a module of its own, so that nobody else downloads Helm.
package clients
