package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Format of the folder. A folder of another format is not used.
const Format = 1

// Dir is a data folder.
type Dir struct{ root string }

// Default is where the folder is when nobody says otherwise: $XDG_DATA_HOME/ebb, or
// ~/.local/share/ebb.
func Default() (Dir, error) {
	if base := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return Dir{filepath.Join(base, "ebb")}, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return Dir{}, fmt.Errorf("no home folder for the data (give --data DIR): %w", err)
	}
	return Dir{filepath.Join(home, ".local", "share", "ebb")}, nil
}

// At is the folder at path, or the default one when path is empty.
func At(path string) (Dir, error) {
	if path == "" {
		return Default()
	}
	abs, err := filepath.Abs(path)
	return Dir{abs}, err
}

// Path of something in the folder.
func (d Dir) Path(elements ...string) string {
	return filepath.Join(append([]string{d.root}, elements...)...)
}

// Kubeconfig of the platform's administrator.
func (d Dir) Kubeconfig() string { return d.Path("kubeconfig") }

// PKI is the folder of keys and certificates.
func (d Dir) PKI(file string) string { return d.Path("pki", file) }

// Log file of a part.
func (d Dir) Log(part string) string { return d.Path("logs", part+".log") }

// Lock makes the folder if need be and takes it for this process. The lock goes with
// the process, however that ends. A folder in use is an *InUseError.
func (d Dir) Lock() (*Lock, error) {
	if err := os.MkdirAll(d.root, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w (give another one with --data DIR)", err)
	}
	if err := d.ours(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.Path("lock"), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data folder %s is not writable: %w (give another one with --data DIR)", d.root, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", d.Path("lock"), err)
		}
		text, _ := os.ReadFile(d.Path("lock"))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, &InUseError{Root: d.root, PID: pid}
	}
	err = errors.Join(f.Truncate(0), write(f, fmt.Sprintf("%d\n", os.Getpid())))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w (is the disk full?)", d.Path("lock"), err)
	}
	return &Lock{f}, nil
}

// ours is an error for a folder that holds something, but no state of Ebb.
func (d Dir) ours() error {
	if _, err := os.Stat(d.Path("format")); err == nil {
		return nil
	}
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return fmt.Errorf("the data folder: %w (give another one with --data DIR)", err)
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			return fmt.Errorf("%s holds %q but no state of Ebb: give another folder with --data DIR", d.root, e.Name())
		}
	}
	return nil
}

func write(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// Lock holds the folder.
type Lock struct{ file *os.File }

// Release gives the folder back.
func (l *Lock) Release() { _ = l.file.Close() }

// InUseError says which process has the folder.
type InUseError struct {
	Root string
	PID  int // 0 when unknown
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("`ebb up` already runs on %s (process %d): use it, end it with `kill %d`, or give another folder with --data DIR", e.Root, e.PID, e.PID)
}

// Open checks the format, after Lock. With clean everything but the lock is removed
// first. minFree is in bytes.
func (d Dir) Open(clean bool, minFree uint64) error {
	if clean {
		if err := d.wipe(); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(d.Path("format"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := d.ours(); err != nil {
			return err
		}
		if err := os.WriteFile(d.Path("format"), []byte(strconv.Itoa(Format)+"\n"), 0o600); err != nil {
			return fmt.Errorf("write to the data folder: %w (is the disk full?)", err)
		}
	case err != nil:
		return err
	case strings.TrimSpace(string(text)) != strconv.Itoa(Format):
		return fmt.Errorf("the state in %s has format %s and this program uses %d: start with --clean to begin anew (this deletes the services in it)", d.root, strings.TrimSpace(string(text)), Format)
	}
	for _, sub := range []string{"logs", "pki", "etcd", "node", "registry"} {
		if err := os.MkdirAll(d.Path(sub), 0o700); err != nil {
			return fmt.Errorf("make %s: %w", d.Path(sub), err)
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(d.root, &fs); err == nil {
		if free := fs.Bavail * uint64(fs.Bsize); free < minFree {
			return fmt.Errorf("only %d MB are free on the disk of %s and %d MB are needed: make room, or give a folder on another disk with --data DIR", free>>20, d.root, minFree>>20)
		}
	}
	return nil
}

// wipe deletes what a folder of Ebb holds; a folder that is not Ebb's is left alone.
func (d Dir) wipe() error {
	if err := d.ours(); err != nil {
		return fmt.Errorf("--clean: %w", err)
	}
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lock" || e.Name() == "format" {
			continue
		}
		if err := removeAll(d.Path(e.Name())); err != nil {
			return fmt.Errorf("--clean: %w", err)
		}
	}
	return os.RemoveAll(d.Path("format"))
}

// removeAll also removes what unpacked images made read-only.
func removeAll(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(p string, e os.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// Running is what user commands must know of a platform that is up.
type Running struct {
	PID          int    `json:"pid"`
	Kubeconfig   string `json:"kubeconfig"`
	Gateway      string `json:"gateway"`      // host:port of the external listener
	GatewayHTTPS string `json:"gatewayHTTPS"` // host:port for callers from outside, with TLS
	Internal     string `json:"internal"`     // host:port of the in-cluster listener
	Registry     string `json:"registry"`     // host:port
	Controller   string `json:"controller"`
	// Controllers are the addresses of all controllers' metrics, by part; one of them leads.
	Controllers map[string]string `json:"controllers,omitempty"`
	Control     string            `json:"control"` // host:port of discovery and load reports, mutual TLS
	Activator   string            `json:"activator"`
	// Activators are the addresses of all activators' metrics, by part.
	Activators map[string]string `json:"activators,omitempty"`
	// GatewayMetrics is host:port of /metrics and /ready of the gateway.
	GatewayMetrics string `json:"gatewayMetrics"`
	// Events is the URL that events are sent below, "" without eventing; Eventing and NATS are host:port
	// of the metrics of that part and of the store of events.
	Events   string `json:"events,omitempty"`
	Eventing string `json:"eventing,omitempty"`
	// Inspect is host:port that answers `ebb events`.
	Inspect string         `json:"inspect,omitempty"`
	NATS    string         `json:"nats,omitempty"`
	Parts   map[string]int `json:"parts"` // process ids by name
}

// WriteRunning replaces the record.
func (d Dir) WriteRunning(r Running) error { return writeJSON(d.Path("running.json"), r) }

// RemoveRunning removes the record.
func (d Dir) RemoveRunning() { _ = os.Remove(d.Path("running.json")) }

// ReadRunning returns the record if the process that wrote it still holds the folder.
func (d Dir) ReadRunning() (Running, bool) {
	var r Running
	text, err := os.ReadFile(d.Path("running.json"))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return r, false
	}
	if syscall.Kill(r.PID, 0) != nil {
		return r, false // of one that was killed; another that holds the folder has not got to its own yet
	}
	f, err := os.Open(d.Path("lock"))
	if err != nil {
		return r, false
	}
	defer f.Close()
	held := errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
	return r, held
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("%w (is the disk full?)", err)
	}
	return os.Rename(temp, path)
}
