package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ebb.dev/ebb/eventing/jetstream"
)

// server is `ebb nats` on a folder.
type server struct {
	program, folder, url string
	cmd                  *exec.Cmd
}

// start returns when the server takes clients, on the address that it had before if it had one.
func (s *server) start(ctx context.Context) error {
	if s.url == "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.url = "nats://" + l.Addr().String()
		_ = l.Close()
	}
	log, err := os.OpenFile(filepath.Join(s.folder, "nats.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command(s.program, "nats", "--listen", s.url[len("nats://"):], "--data", filepath.Join(s.folder, "data"), "--metrics-listen", "")
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	e, err := jetstream.Open(jetstream.Options{URL: s.url})
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	for deadline := time.Now().Add(time.Minute); ; {
		if err = e.Ready(ctx); err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			text, _ := os.ReadFile(log.Name())
			return errors.Join(fmt.Errorf("ebb nats did not start: %w\n%s", err, text), ctx.Err())
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// kill is SIGKILL.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// processor is the time that this process and the server have had the processor for, in user and system mode.
func (s *server) processor() time.Duration {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0
	}
	total := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	// Fields 14 and 15 of proc(5), in hundredths of a second; the second one has spaces in it.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return total
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	for _, f := range fields[11:13] {
		n, _ := strconv.Atoi(f)
		total += time.Duration(n) * 10 * time.Millisecond
	}
	return total
}
