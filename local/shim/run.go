package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run is the life of one shim: `ebb-shim run DIR`, with the write end of the
// node's pipe as descriptor 3. It returns when the container has ended and
// exit.json says how.
func Run(dir string) error {
	runtime.LockOSThread() // the program's life hangs on the thread that starts it
	report := os.NewFile(3, "report")
	unix.CloseOnExec(3)
	var spec Spec
	if err := readJSON(dir, specFile, &spec); err != nil {
		return err
	}
	// Orphans of the program become the shim's children, so that none survives.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, endGracefully, endNow, unix.SIGINT, unix.SIGHUP)

	cmd, failed, output, err := launch(dir, spec)
	if err != nil {
		return couldNot(dir, err)
	}
	log, err := openLog(dir, spec.LogBytes)
	if err != nil {
		_ = cmd.Process.Kill()
		return couldNot(dir, err)
	}
	defer log.Close()
	var copies sync.WaitGroup
	for i, name := range []string{"stdout", "stderr"} {
		copies.Go(func() { log.copy(name, output[i]) })
	}

	why, _ := io.ReadAll(io.LimitReader(failed, 1<<14)) // ends when the program is executed
	if len(why) > 0 {
		_ = cmd.Wait()
		return couldNot(dir, errors.New(string(why)))
	}
	started := time.Now().UTC()
	st := State{Started: started}
	if st.Shim, err = Identify(os.Getpid()); err == nil {
		// A program that has ended already has no start time any more.
		st.Program, _ = Identify(cmd.Process.Pid)
		err = writeJSON(dir, stateFile, st)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return couldNot(dir, err)
	}
	line, _ := json.Marshal(st)
	_, _ = report.Write(append(line, '\n'))
	report.Close()

	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(done)
	}()
	for {
		select {
		case s := <-signals:
			switch s {
			case endNow:
				_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
				_ = cmd.Process.Kill()
			case endGracefully:
				stop := spec.StopSignal
				if stop == 0 {
					stop = int(unix.SIGTERM)
				}
				_ = cmd.Process.Signal(syscall.Signal(stop))
			}
			continue
		case <-done:
		}
		break
	}
	endRest(cmd.Process.Pid)
	finished := time.Now().UTC()
	waitFor(&copies, 2*time.Second)
	e := exitOf(cmd.ProcessState)
	e.Started, e.Finished = started, finished
	return writeJSON(dir, exitFile, e)
}

// launch starts the second half (Init) in its namespaces. failed delivers why the
// program could not be executed, and ends empty when it was.
func launch(dir string, spec Spec) (cmd *exec.Cmd, failed *os.File, output [2]*os.File, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, output, err
	}
	defer w.Close()
	cmd = exec.Command("/proc/self/exe", "init", dir)
	cmd.ExtraFiles = []*os.File{w}
	if spec.Stdin {
		if err := unix.Mkfifo(at(dir, StdinFile), 0o600); err != nil {
			return nil, nil, output, fmt.Errorf("input: %w", err)
		}
		// Open for both, so that it does not end when a writer goes.
		in, err := os.OpenFile(at(dir, StdinFile), os.O_RDWR, 0)
		if err != nil {
			return nil, nil, output, fmt.Errorf("input: %w", err)
		}
		defer in.Close()
		cmd.Stdin = in
	}
	for i, to := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
		pr, pw, err := os.Pipe()
		if err != nil {
			return nil, nil, output, err
		}
		defer pw.Close()
		output[i] = pr
		*to = pw
	}
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	iso := spec.Isolation
	if iso.Mounts {
		attr.Cloneflags |= syscall.CLONE_NEWNS
		if iso.PIDs {
			attr.Cloneflags |= syscall.CLONE_NEWPID
		}
		if iso.Users {
			attr.Cloneflags |= syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: spec.UID, HostID: os.Getuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: spec.GID, HostID: os.Getgid(), Size: 1}}
			// Kept over the exec of init, given up before the program's.
			attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_DAC_OVERRIDE}
		}
	}
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return nil, nil, output, fmt.Errorf("start in %v: %w", iso, err)
	}
	return cmd, r, output, nil
}

func couldNot(dir string, err error) error {
	now := time.Now().UTC()
	return writeJSON(dir, exitFile, Exit{Code: 128, Error: err.Error(), Started: now, Finished: now})
}

func exitOf(s *os.ProcessState) Exit {
	w, ok := s.Sys().(syscall.WaitStatus)
	if ok && w.Signaled() {
		return Exit{Code: 128 + int(w.Signal()), Signal: int(w.Signal())}
	}
	return Exit{Code: s.ExitCode()}
}

// endRest kills what the program left behind: its session's process group and
// every orphan that came to this shim.
func endRest(pgid int) {
	_ = unix.Kill(-pgid, unix.SIGKILL)
	for {
		b, _ := os.ReadFile("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children")
		kids := strings.Fields(string(b))
		for _, k := range kids {
			if pid, err := strconv.Atoi(k); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && err != unix.EINTR {
			return // no child is left
		}
	}
}

// waitFor waits for the last output, which a descriptor handed to another
// process could hold open for ever.
func waitFor(g *sync.WaitGroup, most time.Duration) {
	done := make(chan struct{})
	go func() { g.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(most):
	}
}

// path of a file of the container's folder
func at(dir, name string) string { return filepath.Join(dir, name) }
