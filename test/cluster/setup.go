//go:build linux

package main

import (
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
)

//go:embed config
var configs embed.FS

// write fills the configuration files of the programs into the folder etc.
func (h *home) write() error {
	files, err := template.ParseFS(configs, "config/*")
	if err != nil {
		return err
	}
	hosts := filepath.Join("certs.d", h.Registry(), "hosts.toml")
	for _, dir := range []string{filepath.Dir(hosts), "cni"} {
		if err := os.MkdirAll(h.path("etc", dir), 0o755); err != nil {
			return err
		}
	}
	bundle, err := os.ReadFile(h.pki("ca.crt"))
	if err != nil {
		return err
	}
	values := map[string]any{
		"MetricsPort": metricsPort, "Bundle": base64.StdEncoding.EncodeToString(bundle),
		"Home": h.root, "PKI": h.pki(""), "Registry": h.Registry(), "RegistryHost": registryHost, "Pause": h.image("pause"), "DNS": h.image("dns"),
		"NodeName": nodeName, "NodeIP": nodeIP, "NodePods": nodePods, "PodCIDR": podCIDR, "DNSIP": dnsIP, "Cgroup": h.cgroup(),
		"CgroupV1": !isCgroupV2(),
	}
	for name, to := range map[string]string{"hosts.toml": hosts, "10-pods.conflist": "cni/10-pods.conflist"} {
		if err := fill(files, name, h.path("etc", to), values); err != nil {
			return err
		}
	}
	for _, name := range []string{"containerd.toml", "kubelet.yaml", "proxy.yaml", "dns.yaml", "metrics.yaml", "hosts", "resolv.conf", "resolv-node.conf"} {
		if err := fill(files, name, h.path("etc", name), values); err != nil {
			return err
		}
	}
	return nil
}

func fill(files *template.Template, name, path string, values any) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(files.ExecuteTemplate(f, name, values), f.Close())
}

func isCgroupV2() bool {
	_, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers"))
	return err == nil
}

// mounts give the node folders of its own. They are in its mount namespace only.
func (h *home) mounts() error {
	data := h.path("data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	mount := func(source, target, kind string, flags uintptr, options string) error {
		if err := syscall.Mount(source, target, kind, flags, options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", source, target, err)
		}
		return nil
	}
	// containerd's layers cannot be on an overlay, which the folder is on in a container.
	const overlayMagic = 0x794c7630
	var on syscall.Statfs_t
	if err := syscall.Statfs(data, &on); err == nil && on.Type == overlayMagic {
		if err := mount("tmpfs", data, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
	}
	if len(packagesMissing()) > 0 {
		if err := mount("overlay", "/usr", "overlay", 0, "lowerdir="+h.path("debian", "root", "usr")+":/usr"); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/run", "/var/log"} { // sockets, network namespaces of pods, their logs
		if err := mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/run/lock", "/run/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/var/lib/kubelet", "/var/lib/cni"} {
		from := h.path("data", filepath.Base(dir))
		if err := errors.Join(os.MkdirAll(from, 0o755), os.MkdirAll(dir, 0o755)); err != nil {
			return err
		}
		if err := mount(from, dir, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, file := range []string{"hosts", "resolv.conf"} {
		target, err := filepath.EvalSymlinks("/etc/" + file)
		if errors.Is(err, fs.ErrNotExist) { // a link into the /run of the machine
			if target, err = os.Readlink("/etc/" + file); err == nil {
				target = filepath.Join("/etc", target)
				err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, nil, 0o644))
			}
		}
		if err != nil {
			return err
		}
		if err := mount(h.path("etc", file), target, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// network gives the node an address and a way to the Services' addresses. There is no way out.
func network() error {
	for _, line := range []string{
		"ip link set lo up",
		"ip addr add " + nodeIP + "/32 dev lo",
		// kube-proxy rewrites what goes to a Service in the output chain, so a route must exist. Over
		// lo its rejections would be lost.
		"ip link add svc0 type bridge",
		"ip link set svc0 up",
		"ip route add " + serviceCIDR + " dev svc0 src " + nodeIP,
	} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}
