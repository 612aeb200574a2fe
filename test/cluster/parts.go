//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"ebb.dev/ebb/cmd/ebb/supervise"
)

func (h *home) part(name, program string, ready func(context.Context) error, args ...string) supervise.Spec {
	return supervise.Spec{Name: name, Path: program, Args: args, Dir: h.path("data"), Log: h.log(name), Ready: ready}
}

func (h *home) kube(program string) (path string, args []string) {
	return filepath.Join(h.bin, "ebb-kube"), []string{program}
}

const containerdSocket = "/run/containerd/containerd.sock"

func (h *home) containerd() supervise.Spec {
	return h.part("containerd", "/usr/bin/containerd", func(context.Context) error {
		_, err := os.Stat(containerdSocket)
		return err
	}, "--config", h.path("etc", "containerd.toml"), "--log-level", "warn")
}

func (h *home) registry() supervise.Spec {
	return h.part("registry", filepath.Join(h.bin, "ebb-node"), get("http://"+h.pushTo()+"/v2/"),
		"registry", fmt.Sprintf("--listen=0.0.0.0:%d", h.RegistryPort), "--data="+h.path("data", "registry"))
}

func (h *home) etcd() supervise.Spec {
	program, args := h.kube("etcd")
	const peer, client = "http://127.0.0.1:2380", "http://127.0.0.1:2379"
	return h.part("etcd", program, get(client+"/health"), append(args,
		"--name="+nodeName, "--data-dir="+h.path("data", "etcd"), "--log-level=warn",
		"--unsafe-no-fsync", // the data are thrown away
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster="+nodeName+"="+peer)...)
}

func (h *home) apiserver(ready func(context.Context) error) supervise.Spec {
	program, args := h.kube("kube-apiserver")
	p := h.pki
	return h.part("kube-apiserver", program, ready, append(args,
		"--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", "--advertise-address="+nodeIP, fmt.Sprintf("--secure-port=%d", h.APIPort),
		"--service-cluster-ip-range="+serviceCIDR, "--allow-privileged=true", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--client-ca-file="+p("ca.crt"), "--tls-cert-file="+p("apiserver.crt"), "--tls-private-key-file="+p("apiserver.key"),
		"--kubelet-certificate-authority="+p("ca.crt"), "--kubelet-client-certificate="+p("kubelet-client.crt"), "--kubelet-client-key="+p("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file="+p("sa.pub"), "--service-account-signing-key-file="+p("sa.key"),
		"--requestheader-client-ca-file="+p("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+p("front-proxy-client.crt"), "--proxy-client-key-file="+p("front-proxy-client.key"))...)
}

func (h *home) controllers() supervise.Spec {
	program, args := h.kube("kube-controller-manager")
	p, config := h.pki, h.pki("controller-manager.kubeconfig")
	return h.part("kube-controller-manager", program, nil, append(args,
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--bind-address=127.0.0.1", "--leader-elect=false",
		"--kube-api-qps=300", "--kube-api-burst=600", // the default delays the first pods by seconds
		"--node-monitor-period=1s", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+p("sa.key"), "--root-ca-file="+p("ca.crt"), "--cluster-signing-cert-file="+p("ca.crt"), "--cluster-signing-key-file="+p("ca.key"),
		"--allocate-node-cidrs=true", "--cluster-cidr="+podCIDR, "--node-cidr-mask-size=24", "--service-cluster-ip-range="+serviceCIDR,
		"--horizontal-pod-autoscaler-sync-period=5s")...)
}

func (h *home) scheduler() supervise.Spec {
	config := h.pki("scheduler.kubeconfig")
	return h.part("kube-scheduler", h.path("bin", "kube-node"), nil, "kube-scheduler",
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--bind-address=127.0.0.1", "--leader-elect=false",
		"--kube-api-qps=300", "--kube-api-burst=600")
}

func (h *home) kubelet() supervise.Spec {
	return h.part("kubelet", h.path("bin", "kube-node"), get("http://127.0.0.1:10248/healthz"), "kubelet",
		"--config="+h.path("etc", "kubelet.yaml"), "--kubeconfig="+h.pki("kubelet.kubeconfig"), "--node-ip="+nodeIP, "--hostname-override="+nodeName)
}

func (h *home) proxy() supervise.Spec {
	return h.part("kube-proxy", h.path("bin", "kube-node"), get("http://127.0.0.1:10256/healthz"), "kube-proxy", "--config="+h.path("etc", "proxy.yaml"))
}

const metricsPort = 4443

func (h *home) metrics() supervise.Spec {
	p := h.pki
	return h.part("metrics", h.path("bin", "kube-node"), nil, "metrics", "--kubeconfig="+h.kubeconfig(), "--node="+nodeName, "--cgroup-root="+h.cgroup(),
		fmt.Sprintf("--listen=%s:%d", nodeIP, metricsPort), "--cert="+p("metrics.crt"), "--key="+p("metrics.key"), "--client-ca="+p("front-proxy-ca.crt"), "--client-name=front-proxy-client")
}

// get asks once for status 200.
func get(url string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, answer.Status)
		}
		return nil
	}
}
