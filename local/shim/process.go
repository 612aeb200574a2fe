package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// startTime reads when a process started, in clock ticks since boot; a zombie
// counts as gone.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field is the name in brackets and may hold anything; state is
	// field 3, start time field 22 (proc_pid_stat(5)).
	i := bytes.LastIndexByte(b, ')')
	f := bytes.Fields(b[i+1:])
	if i < 0 || len(f) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: unexpected format", pid)
	}
	if f[0][0] == 'Z' || f[0][0] == 'X' {
		return 0, os.ErrProcessDone
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}

// Identify names the process that has this PID now.
func Identify(pid int) (Process, error) {
	s, err := startTime(pid)
	return Process{pid, s}, err
}

// Alive tells whether exactly this process is running.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	s, err := startTime(p.PID)
	return err == nil && s == p.Start
}

// Signal sends a signal to exactly this process; os.ErrProcessDone when it is gone.
func (p Process) Signal(s unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == nil {
		defer unix.Close(fd)
		if !p.Alive() { // asked after opening: the descriptor is of whom we ask about
			return os.ErrProcessDone
		}
		err = unix.PidfdSendSignal(fd, s, nil, 0)
	} else if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		if !p.Alive() {
			return os.ErrProcessDone
		}
		err = unix.Kill(p.PID, s)
	}
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Wait blocks until the process is gone or the context ends. It needs no thread
// while it waits where the kernel has pidfd (5.3), and asks every 20 ms elsewhere.
func (p Process) Wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, unix.O_NONBLOCK)
	if err != nil {
		return p.poll(ctx)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !p.Alive() {
		return nil
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil { // not in the poller
		return p.poll(ctx)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = c.Read(func(uintptr) bool { return !p.Alive() })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (p Process) poll(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for p.Alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}
