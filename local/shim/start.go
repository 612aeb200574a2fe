package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Signals that the shim understands: the graceful end and the end of everything.
const (
	endGracefully = unix.SIGTERM
	endNow        = unix.SIGUSR2
)

// Container is a started or adopted shim with its program. Its methods may be
// called from several goroutines.
type Container struct {
	Dir   string
	State State
	child *os.Process // nil when adopted: then it is init that reaps it
}

// Start writes the spec into dir (which exists), starts the shim binary and
// returns when the program was executed (its exec has succeeded). A program that
// could not be started is an *Error; the folder then holds an Exit too.
func Start(ctx context.Context, binary, dir string, spec Spec) (*Container, error) {
	if err := writeJSON(dir, specFile, spec); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command(binary, "run", dir)
	cmd.ExtraFiles = []*os.File{w}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stderr, err := os.OpenFile(filepath.Join(dir, "shim.err"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.Close()
		return nil, err
	}
	cmd.Stderr = stderr
	err = cmd.Start()
	stderr.Close()
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(endNow) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(r, 1<<16)).ReadBytes('\n')
	var st State
	if err == nil {
		err = json.Unmarshal(line, &st)
	}
	if err != nil {
		_, _ = cmd.Process.Wait()
		if e, ok, _ := ReadExit(dir); ok {
			if e.Error == "" { // ended before it could be asked
				return nil, &Error{"ended while starting", e}
			}
			return nil, &Error{e.Error, e}
		}
		b, _ := os.ReadFile(filepath.Join(dir, "shim.err"))
		return nil, &Error{fmt.Sprintf("ebb-shim ended without an answer: %.2000s", b), Exit{Code: 128, Finished: time.Now()}}
	}
	return &Container{Dir: dir, State: st, child: cmd.Process}, nil
}

// Error is a program that could not be started.
type Error struct {
	Reason string
	Exit   Exit
}

func (e *Error) Error() string { return e.Reason }

// Adopt takes over the container of a folder. running is false when it has ended
// (then Exit tells how) or was never started.
func Adopt(dir string) (c *Container, running bool, err error) {
	c = &Container{Dir: dir}
	err = readJSON(dir, stateFile, &c.State)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return c, c.State.Shim.Alive(), nil
}

// Wait blocks until the container has ended and tells how.
func (c *Container) Wait(ctx context.Context) (Exit, error) {
	if err := c.State.Shim.Wait(ctx); err != nil {
		return Exit{}, err
	}
	if c.child != nil {
		_, _ = c.child.Wait()
	}
	return c.Exit()
}

// Exit tells how an ended container ended. A shim that was killed left nothing
// behind: that counts as killed.
func (c *Container) Exit() (Exit, error) {
	e, ok, err := ReadExit(c.Dir)
	if err != nil || ok {
		return e, err
	}
	return Exit{Code: 137, Signal: int(unix.SIGKILL), Error: "its shim was killed", Started: c.State.Started, Finished: time.Now()}, nil
}

// Stop asks the program to end (the image's stop signal, else SIGTERM).
func (c *Container) Stop() error { return ignoreDone(c.State.Shim.Signal(endGracefully)) }

// Kill ends the program and everything it started.
func (c *Container) Kill() error { return ignoreDone(c.State.Shim.Signal(endNow)) }

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Remove deletes what only the run needed, before the folder itself is deleted:
// an overlay's work folder may hold an entry its owner cannot read.
func Remove(dir string) error {
	_ = os.Chmod(filepath.Join(dir, workDir, "work"), 0o700)
	if err := os.RemoveAll(dir); err != nil {
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(p, 0o700)
			}
			return nil
		})
		return os.RemoveAll(dir)
	}
	return nil
}
