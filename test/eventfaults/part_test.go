package eventfaults

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// part is a process that is started again whenever it ends, as a Deployment would.
type part struct {
	name, log string
	args, env []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	held    chan struct{} // not nil: it is not started before this is closed
	ended   int           // by itself
	killed  bool
	stopped bool
	done    chan struct{}
}

func startPart(t *testing.T, name string, env []string, args ...string) *part {
	t.Helper()
	p := &part{name: name, log: filepath.Join(t.TempDir(), name+".log"), args: args, env: env, done: make(chan struct{})}
	if err := p.begin(); err != nil {
		t.Fatal(err)
	}
	go p.keep(t)
	t.Cleanup(func() {
		p.mu.Lock()
		p.stopped = true
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Kill()
		p.mu.Unlock()
		<-p.done
		if t.Failed() {
			text, _ := os.ReadFile(p.log)
			t.Logf("the end of %s's log:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return p
}

func (p *part) begin() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p.cmd.Start()
}

func (p *part) keep(t *testing.T) {
	defer close(p.done)
	for {
		_ = p.cmd.Wait()
		p.mu.Lock()
		if p.stopped {
			p.mu.Unlock()
			return
		}
		if !p.killed {
			p.ended++
		}
		p.killed = false
		held := p.held
		p.mu.Unlock()
		if held != nil {
			<-held
		}
		<-time.After(100 * time.Millisecond) // as a supervisor, which does not start it as fast as it ends
		p.mu.Lock()
		if p.stopped {
			p.mu.Unlock()
			return
		}
		err := p.begin()
		p.mu.Unlock()
		if err != nil {
			t.Errorf("start %s again: %v", p.name, err)
			return
		}
	}
}

// kill is SIGKILL.
func (p *part) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	_ = p.cmd.Process.Kill()
}

// hold kills it, and starts it again when back is called.
func (p *part) hold() (back func()) {
	held := make(chan struct{})
	p.mu.Lock()
	p.held = held
	p.mu.Unlock()
	p.kill()
	return sync.OnceFunc(func() {
		p.mu.Lock()
		p.held = nil
		p.mu.Unlock()
		close(held)
	})
}

func (p *part) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(s)
}

func (p *part) endedByItself() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// program is the built ebb, or the test is skipped.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("EBB")
	if path == "" {
		path = "../../bin/ebb"
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Skipf("no ebb (%v): run `make ebb`, or set $EBB", err)
	}
	return path
}

// await looks until err is nil.
func await(t *testing.T, what string, look func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); <-tick.C {
		if err = look(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// get reads a page.
func get(url string) (string, error) {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(url) //nolint:noctx // it has a timeout
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status + " " + b.String())
	}
	return b.String(), nil
}
