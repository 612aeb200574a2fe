//go:build linux

package main

import (
	"fmt"
	"net"
	"time"

	"ebb.dev/ebb/cmd/ebb/pki"
)

// trust makes keys, certificates and kubeconfigs; those that are good are kept.
func (h *home) trust() error {
	loopback, node := net.IPv4(127, 0, 0, 1), net.ParseIP(nodeIP)
	const kube, front = "ca", "front-proxy-ca"
	_, err := pki.Ensure(h.pki(""), []string{kube, front}, []pki.Certificate{
		{Name: "apiserver", CommonName: "kube-apiserver", Authority: kube, Server: true,
			DNS: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", nodeName},
			IPs: []net.IP{loopback, node, net.ParseIP(apiServiceIP)}},
		{Name: "kubelet-client", CommonName: "kube-apiserver-kubelet-client", Organization: "system:masters", Authority: kube, Client: true},
		{Name: "front-proxy-client", CommonName: "front-proxy-client", Authority: front, Client: true},
		{Name: "admin", CommonName: "admin", Organization: "system:masters", Authority: kube, Client: true},
		{Name: "controller-manager", CommonName: "system:kube-controller-manager", Authority: kube, Client: true},
		{Name: "scheduler", CommonName: "system:kube-scheduler", Authority: kube, Client: true},
		{Name: "proxy", CommonName: "system:kube-proxy", Authority: kube, Client: true},
		{Name: "kubelet", CommonName: "system:node:" + nodeName, Organization: "system:nodes", Authority: kube, Client: true},
		{Name: "kubelet-server", CommonName: "system:node:" + nodeName, Organization: "system:nodes", Authority: kube, Server: true,
			DNS: []string{nodeName}, IPs: []net.IP{loopback, node}},
		{Name: "metrics", CommonName: "metrics.kube-system.svc", Authority: kube, Server: true, DNS: []string{"metrics.kube-system.svc"}},
	}, time.Now())
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if err := pki.EnsureSigningKey(h.pki(""), "sa"); err != nil {
		return fmt.Errorf("make the key of service accounts: %w", err)
	}
	for user, path := range map[string]string{
		"admin": h.kubeconfig(), "controller-manager": h.pki("controller-manager.kubeconfig"), "scheduler": h.pki("scheduler.kubeconfig"),
		"proxy": h.pki("proxy.kubeconfig"), "kubelet": h.pki("kubelet.kubeconfig"),
	} {
		if err := pki.WriteKubeconfig(path, h.pki(""), fmt.Sprintf("https://127.0.0.1:%d", h.APIPort), kube, user); err != nil {
			return err
		}
	}
	return nil
}
