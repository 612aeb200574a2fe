package up

import (
	"fmt"
	"net"
	"time"

	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/cmd/ebb/pki"
	objects "ebb.dev/ebb/config/install"
	"ebb.dev/ebb/trust"
)

const nodeName = "ebb"

// controllerUser is what the kube-apiserver calls the controller: its service account, as on a cluster. It has
// the rights that it has there and no others.
const controllerUser = objects.ControllerUser

// eventingUser is what it calls the eventing part, likewise.
const eventingUser = objects.EventingUser

// certificates of the platform. Three authorities: what speaks to Kubernetes says
// nothing about who may speak to Ebb's control plane, or in other users' names.
func certificates() []pki.Certificate {
	loopback := net.IPv4(127, 0, 0, 1)
	const kube, mesh, front = "ca", "mesh-ca", "front-proxy-ca"
	return []pki.Certificate{
		{Name: "apiserver", CommonName: "kube-apiserver", Authority: kube, Server: true,
			DNS: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			IPs: []net.IP{loopback, net.IPv4(10, 96, 0, 1)}},
		{Name: "kubelet-client", CommonName: "kube-apiserver-kubelet-client", Authority: kube, Client: true},
		{Name: "admin", CommonName: "admin", Organization: "system:masters", Authority: kube, Client: true},
		{Name: "kcm", CommonName: "system:kube-controller-manager", Authority: kube, Client: true},
		{Name: "node", CommonName: "system:node:" + nodeName, Organization: "system:masters", Authority: kube, Client: true},
		{Name: "node-server", CommonName: "system:node:" + nodeName, Authority: kube, Server: true,
			DNS: []string{"localhost"}, IPs: []net.IP{loopback}},
		{Name: "node-metrics", CommonName: metricsHost, Authority: kube, Server: true, DNS: []string{metricsHost}},
		{Name: frontProxy, CommonName: frontProxy, Authority: front, Client: true},
		{Name: "controller", CommonName: controllerUser, Authority: kube, Client: true},
		{Name: "eventing", CommonName: eventingUser, Authority: kube, Client: true},
		{Name: "webhook", CommonName: "ebb-webhook", Authority: mesh, Server: true, DNS: []string{"localhost"}, IPs: []net.IP{loopback}},
		{Name: "mesh-controller", CommonName: "ebb-controller", Authority: mesh, Server: true, URI: trust.Controller.URI()},
		{Name: "mesh-activator", CommonName: "ebb-activator", Authority: mesh, Server: true, Client: true, URI: trust.Activator.URI()},
		{Name: "mesh-eventing", CommonName: "ebb-eventing", Authority: mesh, Client: true, URI: trust.Eventing.URI()},
		{Name: "mesh-gateway", CommonName: "ebb-gateway", Authority: mesh, Client: true, URI: trust.Gateway.URI()},
		{Name: "mesh-nats", CommonName: "ebb-nats", Authority: mesh, Server: true, URI: trust.NATS.URI()},
	}
}

// prepareTrust makes keys, certificates and kubeconfigs.
func prepareTrust(dir datadir.Dir, apiserver string, now time.Time) error {
	if _, err := pki.Ensure(dir.PKI(""), []string{"ca", "mesh-ca", "front-proxy-ca"}, certificates(), now); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if err := pki.EnsureSigningKey(dir.PKI(""), "sa"); err != nil {
		return fmt.Errorf("make the key of service accounts: %w", err)
	}
	for user, path := range map[string]string{
		"admin": dir.Kubeconfig(), "kcm": dir.PKI("kcm.kubeconfig"), "node": dir.PKI("node.kubeconfig"), "controller": dir.PKI("controller.kubeconfig"),
		"eventing": dir.PKI("eventing.kubeconfig"),
	} {
		if err := pki.WriteKubeconfig(path, dir.PKI(""), apiserver, "ca", user); err != nil {
			return err
		}
	}
	return nil
}
