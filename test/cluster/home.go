//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Addresses of the node. They are of ranges for tests and exist in its network namespace only.
const (
	nodeName     = "node1"
	nodeIP       = "198.51.100.10"
	podCIDR      = "198.18.0.0/16"
	nodePods     = "198.18.0.0/24"
	serviceCIDR  = "198.19.0.0/16"
	apiServiceIP = "198.19.0.1"
	dnsIP        = "198.19.0.10"
	registryHost = "registry.localhost" // clients speak plain HTTP with names under localhost
)

// home is the node's folder and what is chosen about it.
type home struct {
	root, bin string

	APIPort, RegistryPort int
}

func (h *home) path(elements ...string) string {
	return filepath.Join(append([]string{h.root}, elements...)...)
}

func (h *home) pki(file string) string { return h.path("pki", file) }
func (h *home) log(part string) string { return h.path("logs", part+".log") }
func (h *home) kubeconfig() string     { return h.path("kubeconfig") }

// Registry is how pods and the node call it.
func (h *home) Registry() string { return fmt.Sprintf("%s:%d", registryHost, h.RegistryPort) }

// pushTo is how the machine calls the registry.
func (h *home) pushTo() string { return fmt.Sprintf("127.0.0.1:%d", h.RegistryPort) }

// cgroup is the parent of the node's control groups, one for each folder.
func (h *home) cgroup() string {
	sum := sha256.Sum256([]byte(h.root))
	return "/ebb-node-" + hex.EncodeToString(sum[:4])
}

// environment is what commands on the machine or in the node want to know.
func (h *home) environment() []string {
	return []string{
		"KUBECONFIG=" + h.kubeconfig(),
		"REGISTRY=" + h.pushTo(),
		"POD_REGISTRY=" + h.Registry(),
		"PATH=" + h.path("bin") + ":" + os.Getenv("PATH"),
	}
}

// lock takes the folder; it goes with the process. The error is errUp when a node has it.
func (h *home) lock() (*os.File, error) {
	if err := os.MkdirAll(h.root, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(h.path("lock"), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errUp
		}
		return nil, fmt.Errorf("lock %s: %w", h.path("lock"), err)
	}
	return f, nil
}

var (
	errUp   = errors.New("a node is up")
	errDown = errors.New("no node is up: start it with test/cluster.sh up")
)

// number reads a process id from a file of the folder; 0 when there is none.
func (h *home) number(file string) int {
	text, _ := os.ReadFile(h.path(file))
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// pid1 is the node's first process as the machine sees it.
func (h *home) pid1() (int, error) {
	free, err := h.lock()
	if err == nil {
		free.Close()
		return 0, errDown
	}
	if !errors.Is(err, errUp) {
		return 0, err
	}
	if pid := h.number("node.pid"); pid > 0 && h.ready() {
		return pid, nil
	}
	return 0, errors.New("the node is not ready yet, or ends")
}

func (h *home) ready() bool {
	_, err := os.Stat(h.path("ready"))
	return err == nil
}
