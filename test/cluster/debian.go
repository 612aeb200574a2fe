//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A package of Debian and a file by which it is recognized.
var packages = []struct{ name, file string }{
	{"containerd", "bin/containerd"},
	{"runc", "sbin/runc"},
	{"containernetworking-plugins", "lib/cni/bridge"},
	{"nftables", "sbin/nft"},
	{"iptables", "sbin/xtables-nft-multi"},
	{"iproute2", "bin/ip"},
}

// packagesMissing are those that the machine does not have.
func packagesMissing() []string {
	var names []string
	for _, p := range packages {
		if _, err := os.Stat(filepath.Join("/usr", p.file)); err != nil {
			names = append(names, p.name)
		}
	}
	return names
}

// debian brings what is missing into the folder, without installing it: the packages are only
// unpacked there, and the node sees them laid over its /usr.
func (h *home) debian(ctx context.Context) error {
	missing := packagesMissing()
	done := h.path("debian", "done")
	if text, err := os.ReadFile(done); err == nil && string(text) == fmt.Sprint(missing) {
		return nil
	}
	if err := os.RemoveAll(h.path("debian")); err != nil {
		return err
	}
	for _, dir := range []string{"root/usr", "archives/partial", "lists/partial"} {
		if err := os.MkdirAll(h.path("debian", dir), 0o755); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		get := []string{
			"-q", "-y", "--no-install-recommends", "--download-only",
			"-o", "Dir::Cache::archives=" + h.path("debian", "archives"), "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
		}
		fetch := func(options ...string) error {
			args := append(append(append([]string{}, get...), options...), append([]string{"install"}, missing...)...)
			return apt(ctx, args...)
		}
		if err := fetch(); err != nil { // no lists, or old ones: newer ones, in the folder too
			lists := []string{"-o", "Dir::State::lists=" + h.path("debian", "lists"), "-o", "APT::Sandbox::User=root"}
			if again := apt(ctx, append(lists, "-q", "update")...); again != nil {
				return errors.Join(err, again)
			}
			if err := fetch(lists...); err != nil {
				return err
			}
		}
		archives, err := filepath.Glob(h.path("debian", "archives", "*.deb"))
		if err != nil {
			return err
		}
		for _, archive := range archives {
			if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", archive, h.path("debian", "root")).CombinedOutput(); err != nil {
				return fmt.Errorf("unpack %s: %w: %s", archive, err, out)
			}
		}
		// What the package's script would have chosen.
		for _, name := range []string{"iptables", "iptables-restore", "iptables-save", "ip6tables", "ip6tables-restore", "ip6tables-save"} {
			if err := os.Symlink("xtables-nft-multi", h.path("debian", "root", "usr", "sbin", name)); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
	}
	return os.WriteFile(done, fmt.Append(nil, missing), 0o644)
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get: %w: %s", err, lastBytes(out, 2000))
	}
	return nil
}

func lastBytes(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
