// Package install is `ebb install` and `ebb uninstall`: it brings the objects of config/install to a cluster, in an order in
// which an upgrade loses no request, waits until they work and says what keeps them from it, and takes everything
// away again. What comes in are flags and a kubeconfig. The commands of the binary call it.
package install
