package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// enterRoot makes the image's files the root of this mount namespace.
func enterRoot(dir string, spec Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	root, err := mountRoot(dir, spec)
	if err != nil {
		return err
	}
	if err := mountSystem(root, spec); err != nil {
		return err
	}
	for _, m := range spec.Mounts {
		if err := bind(m.Source, root, m.Target, m.ReadOnly); err != nil {
			return err
		}
	}
	// Now that the mount points are there.
	if !spec.Isolation.Overlay || spec.ReadOnly {
		if err := unix.MountSetattr(-1, root, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("read-only root: %w", err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	// The new root over the old one, then the old one away from under it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	return os.Chdir("/")
}

func mountRoot(dir string, spec Spec) (string, error) {
	root := at(dir, rootDir)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	if !spec.Isolation.Overlay {
		if err := unix.Mount(spec.Rootfs, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return "", fmt.Errorf("bind %s: %w", spec.Rootfs, err)
		}
		return root, nil // made read-only at the end
	}
	for _, d := range []string{upperDir, workDir} {
		if err := os.MkdirAll(at(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	for _, p := range []string{spec.Rootfs, dir} {
		if strings.ContainsAny(p, ",:\\") {
			return "", fmt.Errorf("overlay root: the path %q holds a comma, colon or backslash; choose another data directory", p)
		}
	}
	opts := "lowerdir=" + spec.Rootfs + ",upperdir=" + at(dir, upperDir) + ",workdir=" + at(dir, workDir)
	if spec.Isolation.Users {
		opts += ",userxattr"
	}
	if err := unix.Mount("overlay", root, "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return "", fmt.Errorf("overlay root: %w", err)
	}
	if spec.UID != 0 && !spec.Isolation.Users {
		_ = os.Chmod(filepath.Join(root, "tmp"), 0o1777)
	}
	return root, nil
}

// mountSystem adds what programs expect around the image's files.
func mountSystem(root string, spec Spec) error {
	in := func(p string) string { return filepath.Join(root, p) }
	if spec.Isolation.PIDs {
		if err := unix.Mount("proc", in("proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	} else if err := unix.Mount("/proc", in("proc"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind /proc: %w", err)
	}
	_ = unix.Mount("/sys", in("sys"), "", unix.MS_BIND|unix.MS_REC, "") // for what programs read about cgroups
	_ = unix.MountSetattr(-1, in("sys"), unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err := mountDevices(in("dev")); err != nil {
		return err
	}
	for _, f := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		if err := bind(f, root, f, true); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if spec.Isolation.Overlay {
		return nil
	}
	for _, d := range []string{"tmp", "run", "var/tmp"} {
		if _, err := os.Stat(in(d)); err == nil {
			if err := unix.Mount("tmpfs", in(d), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
				return fmt.Errorf("mount /%s: %w", d, err)
			}
		}
	}
	return nil
}

func mountDevices(dev string) error {
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=65536k"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, d := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		p := filepath.Join(dev, d)
		if err := os.WriteFile(p, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+d, p, "", unix.MS_BIND, ""); err != nil && d != "tty" {
			return fmt.Errorf("bind /dev/%s: %w", d, err)
		}
	}
	for _, l := range [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}} {
		if err := os.Symlink(l[0], filepath.Join(dev, l[1])); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := os.Mkdir(shm, 0o755); err != nil {
		return err
	}
	// The tmpfs may be used up to its own size; 1777 whatever the umask is.
	return os.Chmod(shm, 0o1777)
}

// bind mounts source at target inside root, making the mount point where it can.
// Links inside the image are followed within root only.
func bind(source, root, target string, readOnly bool) error {
	st, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	to, err := within(root, target)
	if err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	if _, err := os.Stat(to); err != nil {
		if st.IsDir() {
			err = os.MkdirAll(to, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
			err = os.WriteFile(to, nil, 0o644)
		}
		if err != nil {
			return fmt.Errorf("mount point %s: %w", target, err)
		}
	}
	if err := unix.Mount(source, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	if readOnly {
		if err := unix.MountSetattr(-1, to, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil && !errors.Is(err, unix.ENOSYS) {
			return fmt.Errorf("bind %s read-only: %w", target, err)
		}
	}
	return nil
}

// within resolves path inside root as if root were /: no link leads out of it.
func within(root, path string) (string, error) {
	rest, at := strings.Split(strings.Trim(path, "/"), "/"), "/"
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name) // of a rooted path: .. stops at /
		l, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			at = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("%s: %w", path, unix.ELOOP)
		}
		if filepath.IsAbs(l) {
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(l, "/"), "/"), rest...)
	}
	return filepath.Join(root, at), nil
}
