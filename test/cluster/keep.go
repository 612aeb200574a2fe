//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// nodeNamespaces are the node's own. Control groups and users are the machine's.
const nodeNamespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

// endDeadline bounds how long a node takes to end; killing its first process ends all.
const endDeadline = 60 * time.Second

// up starts the node unless it runs, in the background, and returns when it is ready. When ctx
// ends before, so does the node.
func (h *home) up(ctx context.Context) error {
	if _, err := h.pid1(); err == nil {
		fmt.Println("the node is up already")
		return nil
	} else if !errors.Is(err, errDown) {
		return err
	}
	if err := h.check(); err != nil {
		return fmt.Errorf("the node cannot run here:\n%w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.path("logs"), 0o755); err != nil {
		return err
	}
	log, err := os.Create(h.log("keep"))
	if err != nil {
		return err
	}
	defer log.Close()
	progress, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer progress.Close()
	keeper := exec.Command(self, h.flags("keep")...)
	keeper.Stdout, keeper.Stderr = log, log
	keeper.ExtraFiles = []*os.File{tell}
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = keeper.Start()
	tell.Close()
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(progress)
	interrupted := context.AfterFunc(ctx, func() { _ = keeper.Process.Signal(syscall.SIGTERM) })
	defer interrupted()
	for lines.Scan() { // until it is ready or has ended
		fmt.Println(lines.Text())
	}
	if h.ready() && ctx.Err() == nil {
		return nil
	}
	_ = keeper.Process.Signal(syscall.SIGTERM)
	_ = keeper.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted; the node has ended")
	}
	said, _ := os.ReadFile(h.log("keep"))
	return fmt.Errorf("the node did not start; its logs are in %s:\n%s", h.path("logs"), lastBytes(said, 3000))
}

// flags start a command of this program for the same node.
func (h *home) flags(command string) []string {
	return []string{
		"--home", h.root, "--bin", h.bin,
		"--api-port", strconv.Itoa(h.APIPort), "--registry-port", strconv.Itoa(h.RegistryPort), command,
	}
}

// keep holds a node until it ends or ctx does, and takes away what it leaves. File 3 gets lines
// of progress until the node is ready.
func (h *home) keep(ctx context.Context) error {
	lock, err := h.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := os.WriteFile(h.path("lock"), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return err
	}
	if err := h.clean(); err != nil { // of one that was killed
		return err
	}
	tell := os.NewFile(3, "progress")
	defer tell.Close()
	ports, err := listen(h.APIPort, h.RegistryPort)
	if err != nil {
		return err
	}
	defer ports.close()
	if err := h.debian(ctx); err != nil {
		return err
	}
	if err := h.trust(); err != nil {
		return err
	}
	if err := h.makeCgroups(); err != nil {
		return err
	}
	defer func() {
		if err := h.clean(); err != nil {
			fmt.Fprintln(os.Stderr, "left behind:", err)
		}
	}()
	// The node dies with this process, however that dies; the kernel ties it to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	node := exec.Command("/proc/self/exe", h.flags("first")...)
	node.Stdout, node.Stderr = os.Stdout, os.Stderr
	node.ExtraFiles = []*os.File{tell}
	node.SysProcAttr = &syscall.SysProcAttr{Cloneflags: nodeNamespaces, Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := node.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	ended := make(chan struct{})
	var waited error
	go func() {
		waited = node.Wait()
		close(ended)
	}()
	defer func() {
		_ = node.Process.Kill()
		<-ended
	}()
	tell.Close() // the node has it
	network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", node.Process.Pid))
	if err != nil {
		return err
	}
	defer network.Close()
	ports.forward(network)
	if err := os.WriteFile(h.path("node.pid"), fmt.Appendln(nil, node.Process.Pid), 0o644); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-ended:
		return fmt.Errorf("the node ended: %w", errors.Join(waited, errors.New("see the other logs")))
	}
}

// clean removes the state of a node that has ended; programs, packages and logs stay.
func (h *home) clean() error {
	errs := []error{h.removeCgroups()}
	for _, state := range []string{"ready", "node.pid", "data", "etc"} {
		errs = append(errs, os.RemoveAll(h.path(state)))
	}
	return errors.Join(errs...)
}

// down ends the node, if there is one, and returns when nothing of it is left.
func (h *home) down() error {
	deadline := time.Now().Add(endDeadline)
	for asked := false; ; {
		lock, err := h.lock()
		if err == nil {
			defer lock.Close()
			return h.clean()
		}
		if !errors.Is(err, errUp) {
			return err
		}
		pid := h.number("lock")
		switch {
		case pid <= 0: // it has just begun
		case time.Now().After(deadline):
			_ = syscall.Kill(pid, syscall.SIGKILL)
		case !asked:
			_ = syscall.Kill(pid, syscall.SIGTERM)
			asked = true
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run is a command inside the node; its exit code is passed on.
func (h *home) run(args []string) error {
	if len(args) == 0 {
		args = []string{"bash"}
	}
	pid, err := h.pid1()
	if err != nil {
		return err
	}
	where, err := os.Getwd()
	if err != nil {
		return err
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	// --wd is resolved in the node's mounts, where the machine's files are as well.
	full := append([]string{"nsenter", "-t", strconv.Itoa(pid), "-n", "-m", "-p", "-u", "-i", "--wd=" + where, "--"}, args...)
	for _, kv := range append(h.environment(),
		"EBB_E2E_KUBECONFIG="+h.kubeconfig(), "EBB_E2E_REGISTRY="+h.Registry(), "EBB_E2E_REGISTRY_HOSTS="+h.path("etc", "certs.d")) {
		key, value, _ := strings.Cut(kv, "=")
		_ = os.Setenv(key, value)
	}
	return syscall.Exec(nsenter, full, os.Environ())
}
