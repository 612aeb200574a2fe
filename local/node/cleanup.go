package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrInUse is a data directory whose node process is alive.
var ErrInUse = errors.New("another ebb-node uses this data directory: end it first")

// lock makes the data directory this process's until it ends.
func lock(data string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// Not inherited by shims: Go opens files close-on-exec.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", data, ErrInUse)
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// Cleanup ends every container that a node process has left running on a data
// directory and removes the pods' files; images stay. It returns how many were
// running. A directory that is not there is clean.
func Cleanup(ctx context.Context, data string) (int, error) {
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	unlock, err := lock(data)
	if err != nil {
		return 0, err
	}
	defer unlock()
	dirs, err := filepath.Glob(filepath.Join(data, "pods", "*"))
	if err != nil {
		return 0, err
	}
	n := 0
	var errs []error
	for _, dir := range dirs {
		k, err := killPod(ctx, dir)
		n += k
		if err == nil {
			err = removePod(dir)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", dir, err))
		}
	}
	return n, errors.Join(errs...)
}
