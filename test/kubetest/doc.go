// Package kubetest starts a real kube-apiserver with a real etcd for a test, with
// Ebb's CRDs installed, and no kubelet: pods are what the test says they are.
//
// The programs are the sub-commands of ebb-kube (see local/), found by $EBB_KUBE or in
// bin/ of the repository, where `make kube` puts it. What comes out is a rest.Config of
// an administrator. Only tests may call it.
package kubetest
