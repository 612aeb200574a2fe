//go:build linux

package main

import (
	"fmt"
	"os"
	"syscall"
)

// first is process 1 of the node: it starts the manager and reaps what is left to it. When it
// ends, the kernel ends all others.
func (h *home) first() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE}, // nothing reaches the machine
		{"proc", "/proc", "proc", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC},
		{"", "/", "", syscall.MS_REC | syscall.MS_SHARED}, // pods see what is mounted later
	} {
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	manager, err := os.StartProcess(self, append([]string{self}, h.flags("manage")...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(3, "progress")},
		Env:   os.Environ(),
	})
	if err != nil {
		return err
	}
	_ = syscall.Close(3)
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if pid == manager.Pid {
			return fmt.Errorf("the manager ended with %d", status.ExitStatus())
		}
	}
}
