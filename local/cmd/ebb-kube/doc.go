// Command ebb-kube is a Kubernetes control plane in one binary: etcd,
// kube-apiserver, kube-controller-manager and kubectl, each exactly the program
// of its Go module, chosen by the first argument:
//
//	ebb-kube etcd --data-dir …
//	ebb-kube kube-apiserver --etcd-servers …
//	ebb-kube kube-controller-manager --kubeconfig …
//	ebb-kube kubectl get pods
//
// What comes in is that program's own command line, passed on unread; what goes
// out is that program's own behaviour, exit code included. Only the chosen
// program is set up, so that their global flags and metrics never meet. There is
// no scheduler: the embedded node binds pods itself. A link to this binary named
// like one of the programs (kubectl -> ebb-kube) starts that program.
//
// `ebb up` is the one that starts it; nothing imports it.
package main
