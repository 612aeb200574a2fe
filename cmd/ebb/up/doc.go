// Package up runs the whole platform on one machine without privileges: etcd, the
// kube-apiserver and its controllers, the node, the registry, Ebb's controller and
// activator, and Envoy, each a process of its own. What comes in are Options; what
// goes out is a Platform that is ready, and lines about its progress. `ebb up` and
// `ebb demo` call it. All state is in one folder (package datadir).
package up
