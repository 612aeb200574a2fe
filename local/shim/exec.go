package shim

import (
	"context"
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
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Command is a further program of a running container.
type Command struct {
	Args []string
	// Stdin, Stdout and Stderr are the program's own; nil is /dev/null. With Terminal
	// they are one terminal, which becomes the program's controlling one.
	Stdin, Stdout, Stderr *os.File
	Terminal              bool
}

// execution is what the processes on the way into the container are told, in a pipe.
type execution struct {
	Spec     Spec
	Terminal bool
}

// Exec runs a program in the container with the environment, user, folder and cgroup of
// its own one, and tells its exit code (128+signal when a signal has ended it). When
// ctx ends the program is killed. An *Error is a program that could not be started.
func (c *Container) Exec(ctx context.Context, binary string, command Command) (int, error) {
	if len(command.Args) == 0 {
		return 0, errors.New("no command")
	}
	var spec Spec
	if err := readJSON(c.Dir, specFile, &spec); err != nil {
		return 0, err
	}
	spec.Args = command.Args
	told, tell, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer told.Close()
	defer tell.Close()
	hear, failed, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer hear.Close()
	defer failed.Close()
	cmd := exec.CommandContext(ctx, binary, "exec", strconv.Itoa(c.State.Program.PID), strconv.FormatUint(c.State.Program.Start, 10))
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file(command.Stdin), file(command.Stdout), file(command.Stderr)
	cmd.ExtraFiles = []*os.File{told, failed}
	// A node that is killed leaves containers, but not what it runs in them for somebody who
	// waits. That hangs on the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: command.Terminal, Pdeathsig: syscall.SIGKILL}
	// The way in ends its children before itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(endNow) }
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	told.Close()
	failed.Close()
	err = json.NewEncoder(tell).Encode(execution{spec, command.Terminal})
	tell.Close()
	why, _ := io.ReadAll(io.LimitReader(hear, 1<<14)) // ends when the program is executed
	waited := cmd.Wait()
	switch {
	case len(why) > 0:
		return 0, &Error{Reason: string(why)}
	case err != nil:
		return 0, fmt.Errorf("exec: %w", err)
	case ctx.Err() != nil:
		return 0, ctx.Err()
	}
	var exit *exec.ExitError
	if waited != nil && !errors.As(waited, &exit) {
		return 0, waited
	}
	return exitOf(cmd.ProcessState).Code, nil
}

// file avoids an interface that is not nil around a nil file.
func file(f *os.File) io.ReadWriter {
	if f == nil {
		return nil
	}
	return f
}

// Descriptors of the two processes on the way in.
const (
	toldFD   = 3 // the execution, as JSON
	failedFD = 4 // takes why the program could not be executed
)

// Enter is `ebb-shim exec PID START`, the first process on the way into the container
// whose program that is: it is outside still, and waits for the second one, which is
// inside.
func Enter(pid, start string) int {
	unix.CloseOnExec(failedFD)
	fail := func(err error) int {
		_, _ = os.NewFile(failedFD, "failed").WriteString(err.Error())
		return 128
	}
	pipe := os.NewFile(toldFD, "told")
	defer runtime.KeepAlive(pipe) // the number is used again
	told, err := io.ReadAll(io.LimitReader(pipe, 4<<20))
	var e execution
	if err == nil {
		err = json.Unmarshal(told, &e)
	}
	var p Process
	if err == nil {
		p.PID, err = strconv.Atoi(pid)
	}
	if err == nil {
		p.Start, err = strconv.ParseUint(start, 10, 64)
	}
	if err != nil {
		return fail(err)
	}
	if err := joinCgroups(e.Spec); err != nil {
		return fail(err)
	}
	signals := listen()
	if !e.Spec.Isolation.Mounts {
		return runInside(e, signals, fail)
	}
	child, err := enterNamespaces(p, e.Spec.Isolation, told)
	if err != nil {
		return fail(err)
	}
	_ = unix.Close(failedFD) // the second one has it
	go func() {
		for range signals {
			_ = unix.Kill(child, endNow)
		}
	}()
	var status unix.WaitStatus
	for {
		got, err := unix.Wait4(child, &status, 0, nil)
		if got == child {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 128
		}
	}
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// Inside is `ebb-shim inside`, the second process: in the container's user and mount
// namespaces, and its children are in the PID namespace.
func Inside() int {
	unix.CloseOnExec(failedFD)
	fail := func(err error) int {
		_, _ = os.NewFile(failedFD, "failed").WriteString(err.Error())
		return 128
	}
	var e execution
	if err := json.NewDecoder(os.NewFile(toldFD, "told")).Decode(&e); err != nil {
		return fail(err)
	}
	return runInside(e, listen(), fail)
}

// listen takes the signals for the end. Those that a terminal sends to the program and
// the processes above it are taken too, and mean nothing to these.
func listen() chan os.Signal {
	terminal := make(chan os.Signal, 1)
	signal.Notify(terminal, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, endNow, endGracefully)
	return signals
}

// runInside runs the program and waits for it.
func runInside(e execution, signals chan os.Signal, fail func(error) int) int {
	runtime.LockOSThread() // the program's life hangs on the thread that starts it, and so do ids
	unix.CloseOnExec(toldFD)
	if err := os.Chdir(workingDir(e.Spec)); err != nil {
		return fail(fmt.Errorf("working directory: %w", err))
	}
	if err := giveUpPrivileges(e.Spec); err != nil {
		return fail(err)
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) // an id change has cleared it
	path, err := lookUp(e.Spec)
	if err != nil {
		return fail(err)
	}
	cmd := &exec.Cmd{Path: path, Args: e.Spec.Args, Env: e.Spec.Env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if !e.Terminal { // a terminal's session is the one that is there
		cmd.SysProcAttr.Setsid = true
	}
	if err := cmd.Start(); err != nil {
		return fail(fmt.Errorf("exec %s: %w", path, errors.Unwrap(err)))
	}
	_ = unix.Close(failedFD)
	go func() {
		for range signals {
			if !e.Terminal {
				_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
			}
			_ = cmd.Process.Kill()
		}
	}()
	_ = cmd.Wait()
	return exitOf(cmd.ProcessState).Code
}

// enterNamespaces starts `ebb-shim inside` in the namespaces of the process p.
func enterNamespaces(p Process, iso Isolation, told []byte) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kinds := []string{"mnt"}
	if iso.Users { // first: it gives the right to enter the others
		kinds = []string{"user", "mnt"}
	}
	if iso.PIDs {
		kinds = append(kinds, "pid")
	}
	var spaces []int
	for _, k := range kinds {
		fd, err := unix.Open(filepath.Join("/proc", strconv.Itoa(p.PID), "ns", k), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("the container's namespaces: %w", err)
		}
		defer unix.Close(fd)
		spaces = append(spaces, fd)
	}
	if !p.Alive() { // asked after opening: they are of whom we ask about
		return 0, errors.New("the container has ended")
	}
	self, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(self)
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if err := unix.Dup3(int(r.Fd()), toldFD, 0); err != nil {
		return 0, err
	}
	// Only the child has it past its exec.
	if _, err := unix.FcntlInt(failedFD, unix.F_SETFD, 0); err != nil {
		return 0, err
	}
	pid, at, errno := forkInside(spaces, self)
	_ = unix.Close(toldFD)
	go func() {
		_, _ = w.Write(told)
		w.Close()
	}()
	if errno != 0 {
		return 0, fmt.Errorf("enter the container's namespaces (step %d of %d): %w", at+1, len(spaces)+2, errno)
	}
	return pid, nil
}

var (
	noPath     = [1]byte{0}
	insideName = [...]byte{'e', 'b', 'b', '-', 's', 'h', 'i', 'm', 0}
	insideWord = [...]byte{'i', 'n', 's', 'i', 'd', 'e', 0}
	insideArgs = [...]*byte{&insideName[0], &insideWord[0], nil}
	noEnv      = [...]*byte{nil}
)

// forkInside makes a process that is in the namespaces and becomes `ebb-shim inside`.
// A user namespace lets in only a process of one thread, so this is a fork without the Go
// runtime in the child: raw system calls on memory that is there, no allocation, no
// lock, signals blocked. A PID namespace is that of the children made afterwards, so the child
// forks once more, a sibling of its own, and ends. They tell through a pipe how far they came.
//
//go:norace
func forkInside(spaces []int, self int) (pid, at int, failed syscall.Errno) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, unix.EMFILE
	}
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before)
	syscall.ForkLock.Lock()
	var word [3]uint32 // steps done, the error, the process that is inside
	first, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && first == 0 {
		for i := 0; i < len(spaces) && errno == 0; i++ {
			if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, uintptr(spaces[i]), 0, 0); errno == 0 {
				word[0]++
			}
		}
		if errno == 0 {
			var second uintptr
			second, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_PARENT, 0, 0, 0, 0, 0)
			if errno == 0 && second == 0 {
				_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, 8, 0, 0)
				word[0]++
				_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(self), uintptr(unsafe.Pointer(&noPath)), uintptr(unsafe.Pointer(&insideArgs)), uintptr(unsafe.Pointer(&noEnv)), unix.AT_EMPTY_PATH, 0)
			}
			word[2] = uint32(second)
		}
		word[1] = uint32(errno)
		_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, uintptr(pipe[1]), uintptr(unsafe.Pointer(&word)), unsafe.Sizeof(word))
		for {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 128, 0, 0)
		}
	}
	syscall.ForkLock.Unlock()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	_ = unix.Close(pipe[1])
	defer unix.Close(pipe[0])
	if errno != 0 {
		return 0, 0, errno
	}
	for { // it ends when the first has ended and the second has become another program
		n, err := unix.Read(pipe[0], unsafe.Slice((*byte)(unsafe.Pointer(&word)), unsafe.Sizeof(word)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != int(unsafe.Sizeof(word)) {
			break
		}
		at = int(word[0])
		if word[1] != 0 {
			failed = syscall.Errno(word[1])
		}
		if word[2] != 0 {
			pid = int(word[2])
		}
	}
	_, _ = unix.Wait4(int(first), nil, 0, nil)
	if failed != 0 && pid != 0 {
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
	return pid, at, failed
}
