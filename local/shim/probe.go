package shim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Best finds the strongest isolation that this machine allows to this user, by
// running a small container in each, strongest first. The shim binary itself is
// the program, so that nothing else is needed. why says what forbade the stronger
// ones; it is "" when the first worked. dir is a folder on the file system that
// the containers will be on.
func Best(ctx context.Context, binary, dir string) (best Isolation, why string, err error) {
	tmp, err := os.MkdirTemp(dir, ".isolation-")
	if err != nil {
		return Isolation{}, "", err
	}
	defer func() { _ = Remove(tmp) }()
	root := filepath.Join(tmp, "rootfs")
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return Isolation{}, "", err
		}
	}
	for _, f := range []string{"etc/hosts", "etc/resolv.conf"} {
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
			return Isolation{}, "", err
		}
	}
	b, err := os.ReadFile(binary)
	if err != nil {
		return Isolation{}, "", err
	}
	if err := os.WriteFile(filepath.Join(root, "bin/ebb-shim"), b, 0o755); err != nil {
		return Isolation{}, "", err
	}
	users := []bool{true}
	if os.Getuid() == 0 {
		users = []bool{false, true}
	}
	n := 0
	for _, u := range users {
		for _, rest := range []Isolation{{PIDs: true, Overlay: true}, {Overlay: true}, {PIDs: true}, {}} {
			iso := Isolation{Mounts: true, Users: u, PIDs: rest.PIDs, Overlay: rest.Overlay}
			n++
			run := filepath.Join(tmp, fmt.Sprint(n))
			if err := os.Mkdir(run, 0o700); err != nil {
				return Isolation{}, "", err
			}
			fails := try(ctx, binary, run, Spec{Isolation: iso, Rootfs: root, Args: []string{"/bin/ebb-shim", "probe"}})
			if fails == nil {
				return iso, why, nil
			}
			if ctx.Err() != nil {
				return Isolation{}, "", ctx.Err()
			}
			if why == "" {
				why = fmt.Sprintf("%v: %v", iso, fails)
			}
		}
	}
	return Isolation{}, why, nil
}

// try runs the shim inside with arguments it does not know: it says how it is
// used, exit code 2.
func try(ctx context.Context, binary, dir string, spec Spec) error {
	c, err := Start(ctx, binary, dir, spec)
	if err != nil {
		return err
	}
	e, err := c.Wait(ctx)
	if err != nil {
		return err
	}
	if e.Code != 2 {
		return fmt.Errorf("exit code %d", e.Code)
	}
	return nil
}
