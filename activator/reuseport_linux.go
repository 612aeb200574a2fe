package activator

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// sharePort lets several processes listen on one port: the kernel gives each connection to one
// of those that are there.
func sharePort(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
		return e
	}
	return err
}
