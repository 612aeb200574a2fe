//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// check says all that this machine lacks, each with what to do.
func (h *home) check() error {
	var missing []error
	lacks := func(format string, args ...any) { missing = append(missing, fmt.Errorf(format, args...)) }
	if os.Geteuid() != 0 {
		lacks("root is needed: namespaces, mounts and control groups are made (run it with sudo)")
	} else if err := h.tryNamespaces(); err != nil {
		lacks("this machine does not let root make namespaces: %w (in a container: run it privileged)", err)
	}
	if text, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(text), "\toverlay\n") {
		_ = exec.Command("modprobe", "overlay").Run()
		if text, _ = os.ReadFile("/proc/filesystems"); !strings.Contains(string(text), "\toverlay\n") {
			lacks("the kernel has no overlay filesystem, which images are unpacked with")
		}
	}
	if _, err := hierarchies(); err != nil {
		lacks("%w", err)
	}
	if len(packagesMissing()) > 0 {
		for _, tool := range []string{"apt-get", "dpkg-deb"} {
			if _, err := exec.LookPath(tool); err != nil {
				lacks("%s is missing and there is no %s to get it with: install %s", packagesMissing(), tool, packagesMissing())
				break
			}
		}
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		lacks("nsenter is missing: install util-linux")
	}
	for _, program := range []string{"ebb-kube", "ebb-node"} {
		if _, err := os.Stat(filepath.Join(h.bin, program)); err != nil {
			lacks("%s is not built: run `make build`", filepath.Join(h.bin, program))
		}
	}
	for _, program := range []string{"kube-node", "dns", "pause"} {
		if _, err := os.Stat(h.path("bin", program)); err != nil {
			lacks("%s is not built: start with test/cluster.sh, which builds it", h.path("bin", program))
		}
	}
	return errors.Join(missing...)
}

// tryNamespaces starts a process in the namespaces that a node has.
func (h *home) tryNamespaces() error {
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: nodeNamespaces}
	return cmd.Run()
}
