package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Isolation says what keeps a container apart from the machine. The network is
// always the machine's.
type Isolation struct {
	// Mounts: a mount namespace with the image's files as root. False is a plain
	// process that sees the machine's files.
	Mounts bool `json:"mounts,omitempty"`
	// Users: a user namespace, in which an unprivileged user may make the others.
	Users bool `json:"users,omitempty"`
	// PIDs: a PID namespace; its end is the end of all that runs in it.
	PIDs bool `json:"pids,omitempty"`
	// Overlay: the root is an overlay of the image's files and a private upper
	// folder. False is a read-only root with writable /tmp, /run and /var/tmp.
	Overlay bool `json:"overlay,omitempty"`
}

// String is what is said in the log and in the node's annotation.
func (i Isolation) String() string {
	if !i.Mounts {
		return "none"
	}
	s := "mount"
	if i.Users {
		s = "user+" + s
	}
	if i.PIDs {
		s += "+pid"
	}
	if i.Overlay {
		return s + " namespaces, overlay root"
	}
	return s + " namespaces, read-only root"
}

// Mount binds a file or folder of the machine into the container.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"` // absolute path inside the container
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Spec is everything about one run of one container. All paths are absolute.
type Spec struct {
	Isolation Isolation `json:"isolation"`
	Rootfs    string    `json:"rootfs"` // unpacked image; never written to when isolated
	Args      []string  `json:"args"`   // at least one; the first is looked up in the container's PATH
	Env       []string  `json:"env"`
	Dir       string    `json:"dir"` // working directory inside the container, "" is /
	UID       int       `json:"uid"` // inside the container
	GID       int       `json:"gid"`
	Groups    []int     `json:"groups,omitempty"` // further groups, where users can be changed
	Mounts    []Mount   `json:"mounts,omitempty"`
	ReadOnly  bool      `json:"readOnly,omitempty"` // the root cannot be written to, mounts can
	// Cgroups are the cgroup.procs files that the program's processes join.
	Cgroups []string `json:"cgroups,omitempty"`
	// Stdin gives the program a pipe as its input, the file "stdin" of the folder;
	// false is an empty input.
	Stdin bool `json:"stdin,omitempty"`
	// StopSignal is sent for a graceful end; 0 is SIGTERM.
	StopSignal int `json:"stopSignal,omitempty"`
	// LogBytes bounds each of the two log files; 0 is 10 MB.
	LogBytes int64 `json:"logBytes,omitempty"`
}

// Process names a process for certain: a PID alone may be another process later.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // start time in clock ticks since boot
}

// State is written by the shim once the program runs.
type State struct {
	Shim    Process   `json:"shim"`
	Program Process   `json:"program"`
	Started time.Time `json:"started"`
}

// Exit is how a container ended.
type Exit struct {
	Code     int       `json:"code"`             // exit code, 128+signal when killed by one
	Signal   int       `json:"signal,omitempty"` // 0: it exited by itself
	Error    string    `json:"error,omitempty"`  // why it could not be started at all
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
}

// Files of a container's folder.
const (
	specFile  = "spec.json"
	stateFile = "state.json"
	exitFile  = "exit.json"
	LogFile   = "log"
	StdinFile = "stdin"
	OldLog    = "log.1"
	// upperDir and workDir belong to the overlay, rootDir is its mount point.
	upperDir = "upper"
	workDir  = "work"
	rootDir  = "root"
)

func writeJSON(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+name)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}

func readJSON(dir, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// ReadSpec tells what the container of a folder was to run.
func ReadSpec(dir string) (s Spec, err error) { return s, readJSON(dir, specFile, &s) }

// ReadExit tells how the container of a folder ended; ok is false while it has not.
func ReadExit(dir string) (e Exit, ok bool, err error) {
	err = readJSON(dir, exitFile, &e)
	if errors.Is(err, fs.ErrNotExist) {
		return Exit{}, false, nil
	}
	return e, err == nil, err
}
