//go:build !linux

package activator

import (
	"errors"
	"syscall"
)

func sharePort(_, _ string, _ syscall.RawConn) error {
	return errors.New("a port is shared on Linux only")
}
