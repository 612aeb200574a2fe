package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Init is the second half, inside the new namespaces: `ebb-shim init DIR`, with
// a pipe as descriptor 3 that takes why the program could not be executed. It
// does not return when all goes well: the process becomes the program.
func Init(dir string) {
	unix.CloseOnExec(3)
	runtime.LockOSThread() // capabilities and ids are a thread's
	err := become(dir)
	_, _ = os.NewFile(3, "failed").WriteString(err.Error())
	os.Exit(128)
}

func become(dir string) error {
	var spec Spec
	if err := readJSON(dir, specFile, &spec); err != nil {
		return err
	}
	if err := joinCgroups(spec); err != nil {
		return err
	}
	iso := spec.Isolation
	if iso.Mounts {
		if err := enterRoot(dir, spec); err != nil {
			return err
		}
	}
	wd := workingDir(spec)
	if err := os.Chdir(wd); errors.Is(err, fs.ErrNotExist) && iso.Mounts && os.MkdirAll(wd, 0o755) == nil {
		err = os.Chdir(wd)
		if err != nil {
			return fmt.Errorf("working directory: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if err := giveUpPrivileges(spec); err != nil {
		return err
	}
	path, err := lookUp(spec)
	if err != nil {
		return err
	}
	// The death of the shim is the program's end; an id change has cleared it.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	err = syscall.Exec(path, spec.Args, spec.Env)
	return fmt.Errorf("exec %s: %w", path, err)
}

// workingDir is where the program begins. Without isolation that is under the image's files.
func workingDir(spec Spec) string {
	wd := filepath.Join("/", spec.Dir)
	if !spec.Isolation.Mounts {
		wd = filepath.Join(spec.Rootfs, wd)
	}
	return wd
}

// joinCgroups puts this process, and with it what it becomes, into the container's groups.
func joinCgroups(spec Spec) error {
	for _, f := range spec.Cgroups {
		if err := os.WriteFile(f, []byte("0"), 0); err != nil {
			return fmt.Errorf("join the container's cgroup: %w", err)
		}
	}
	return nil
}

// lookUp finds the program as execvp does, in the container's own PATH. Without
// isolation names are looked for under the image's files first.
func lookUp(spec Spec) (string, error) {
	name := spec.Args[0]
	under := ""
	if !spec.Isolation.Mounts {
		under = spec.Rootfs
	}
	if strings.Contains(name, "/") {
		if under != "" && filepath.IsAbs(name) {
			if p := filepath.Join(under, name); executable(p) {
				return p, nil
			}
		}
		return name, nil
	}
	dirs := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range spec.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	for _, root := range []string{under, "/"} {
		for _, d := range filepath.SplitList(dirs) {
			if p := filepath.Join(root, d, name); root != "" && executable(p) || root == "" && executable(filepath.Join("/", d, name)) {
				if root == "" {
					p = filepath.Join("/", d, name)
				}
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("exec %q: executable file not found in $PATH", name)
}

func executable(p string) bool {
	st, err := os.Stat(p)
	return err == nil && !st.IsDir() && st.Mode()&0o111 != 0
}

// kept are the capabilities that a container started by root keeps, the set that
// container runtimes agree on.
var kept = map[uintptr]bool{
	unix.CAP_CHOWN: true, unix.CAP_DAC_OVERRIDE: true, unix.CAP_FSETID: true, unix.CAP_FOWNER: true, unix.CAP_MKNOD: true,
	unix.CAP_NET_RAW: true, unix.CAP_SETGID: true, unix.CAP_SETUID: true, unix.CAP_SETFCAP: true, unix.CAP_SETPCAP: true,
	unix.CAP_NET_BIND_SERVICE: true, unix.CAP_SYS_CHROOT: true, unix.CAP_KILL: true, unix.CAP_AUDIT_WRITE: true,
}

func giveUpPrivileges(spec Spec) error {
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if !spec.Isolation.Mounts {
		return setIDs(spec)
	}
	for c := uintptr(0); c <= 63; c++ {
		if !kept[c] && unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) == unix.EINVAL {
			break // past the kernel's last one
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if spec.Isolation.Users {
		return nil // the one id that exists is the wanted one
	}
	return setIDs(spec)
}

// setIDs changes user and group where the process may; an unprivileged one stays
// who it is.
func setIDs(spec Spec) error {
	if os.Getuid() != 0 || spec.UID == 0 && spec.GID == 0 && len(spec.Groups) == 0 {
		return nil
	}
	if err := syscall.Setgroups(append([]int{spec.GID}, spec.Groups...)); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(spec.GID); err != nil {
		return fmt.Errorf("set group %d: %w", spec.GID, err)
	}
	if err := syscall.Setuid(spec.UID); err != nil {
		return fmt.Errorf("set user %d: %w", spec.UID, err)
	}
	return nil
}
