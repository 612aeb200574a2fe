package envoytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take here: only a deadline for a machine with
// much else to do, never a measure.
const patience = 30 * time.Second

// Envoy is a running process.
type Envoy struct {
	// Admin is the base URL of its admin interface, without a slash at the end. Where that is a unix
	// socket only the methods here reach it.
	Admin string

	client  *http.Client // of the admin interface
	command *exec.Cmd
	exited  chan struct{}
	log     *logBuffer
}

// Start runs Envoy with the bootstrap (YAML, or JSON) until the test ends. The
// bootstrap needs an admin address, best 127.0.0.1:0; listeners may have port 0
// too, see [Envoy.Listener]. It returns when the admin interface answers, which is
// before a control plane has been reached: see [Envoy.AwaitReady]. When the test fails,
// Envoy's log is shown.
func Start(t testing.TB, bootstrap []byte, args ...string) *Envoy {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real Envoy, which -short leaves out")
	}
	binary, err := Find()
	if errors.Is(err, ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, admin := filepath.Join(dir, "bootstrap.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(config, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(args, "--concurrency") {
		args = append(args[:len(args):len(args)], "--concurrency", "1")
	}
	e := &Envoy{exited: make(chan struct{}), log: &logBuffer{}}
	e.command = exec.Command(binary, append([]string{
		"--config-path", config, "--admin-address-path", admin,
		"--disable-hot-restart", "--log-level", "warning",
	}, args...)...)
	e.command.Stdout, e.command.Stderr = e.log, e.log
	e.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.command.Start(); err != nil {
		t.Fatalf("start %s: %v", binary, err)
	}
	go func() {
		_ = e.command.Wait() // killed, as a rule
		close(e.exited)
	}()
	t.Cleanup(func() {
		_ = e.command.Process.Kill() // it may have ended already
		<-e.exited
		if t.Failed() {
			t.Logf("the log of Envoy:\n%s", e.log)
		}
	})
	e.Await(t, "its admin interface", func() error {
		text, err := os.ReadFile(admin)
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(text, []byte("/")):
			path := strings.TrimSpace(string(text))
			e.Admin = "http://admin"
			e.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}}}
		case bytes.Contains(text, []byte(":")):
			e.Admin = "http://" + strings.TrimSpace(string(text))
			e.client = http.DefaultClient
		default:
			return errors.New("the file with the admin address is empty")
		}
		_, err = e.get("/server_info")
		return err
	})
	return e
}

// AwaitReady waits until Envoy has all it asked for and its listeners are open.
func (e *Envoy) AwaitReady(t testing.TB) {
	t.Helper()
	e.Await(t, "Envoy to be ready", func() error {
		_, err := e.get("/ready")
		return err
	})
}

// Listener waits until the named listener is open and returns its address, with the
// port the system chose where it was given as 0.
func (e *Envoy) Listener(t testing.TB, name string) netip.AddrPort {
	t.Helper()
	var address netip.AddrPort
	e.Await(t, "listener "+name, func() error {
		text, err := e.get("/listeners?format=json")
		if err != nil {
			return err
		}
		var answer struct {
			Statuses []struct {
				Name    string `json:"name"`
				Address struct {
					Socket struct {
						Address string `json:"address"`
						Port    uint16 `json:"port_value"`
					} `json:"socket_address"`
				} `json:"local_address"`
			} `json:"listener_statuses"`
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			return err
		}
		for _, s := range answer.Statuses {
			if s.Name != name || s.Address.Socket.Port == 0 {
				continue
			}
			ip, err := netip.ParseAddr(s.Address.Socket.Address)
			if err != nil {
				return err
			}
			address = netip.AddrPortFrom(ip, s.Address.Socket.Port)
			return nil
		}
		return fmt.Errorf("not among the listeners: %s", text)
	})
	return address
}

// Dump returns Envoy's whole configuration as JSON, endpoints included.
func (e *Envoy) Dump(t testing.TB) []byte {
	t.Helper()
	text, err := e.get("/config_dump?include_eds")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (e *Envoy) get(path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Admin+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, text)
	}
	return text, err
}

// Await asks again until the answer is nil.
func (e *Envoy) Await(t testing.TB, what string, ask func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-e.exited:
			t.Fatalf("wait for %s: Envoy ended: %v", what, e.command.ProcessState)
		case <-deadline.C:
			t.Fatalf("wait for %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// logBuffer keeps the end of what Envoy says.
type logBuffer struct {
	mu   sync.Mutex
	text []byte
}

const logKept = 64 << 10

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if len(b.text) > 2*logKept {
		b.text = append([]byte(nil), b.text[len(b.text)-logKept:]...)
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// MostMemory is the most memory the process ever had, in bytes.
func (e *Envoy) MostMemory(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var kb int64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kb << 10
}

// Log returns the end of what Envoy has written so far.
func (e *Envoy) Log() string { return e.log.String() }
