package up_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/test/envoytest"
)

const (
	readyLine = "the platform is ready"
	deadline  = 2 * time.Minute // of anything that is waited for
)

// programs returns the built ebb ($EBB, else bin/ebb), or skips with the reason.
func programs(t *testing.T) (ebb string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a whole platform is started")
	}
	ebb = os.Getenv("EBB")
	if ebb == "" {
		ebb = "../../../bin/ebb"
	}
	ebb, err := filepath.Abs(ebb)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ebb", "ebb-kube", "ebb-node", "ebb-shim"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(ebb), name)); err != nil {
			t.Skipf("not built, run `make build` first: %v", err)
		}
	}
	envoy, err := envoytest.Find()
	if err != nil {
		t.Skip(err)
	}
	t.Setenv("ENVOY", envoy)
	return ebb
}

// run is one `ebb up`.
type run struct {
	*exec.Cmd
	gone chan struct{} // closed when it has ended

	mu    sync.Mutex
	lines []string
	next  chan struct{} // closed and replaced with each line
}

func up(t *testing.T, ebb, data string, args ...string) *run {
	t.Helper()
	r := &run{Cmd: exec.Command(ebb, append([]string{"up", "--data", data, "--port", "0"}, args...)...), gone: make(chan struct{}), next: make(chan struct{})}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Stdout, r.Stderr = in, in
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			r.mu.Lock()
			r.lines = append(r.lines, s.Text())
			close(r.next)
			r.next = make(chan struct{})
			r.mu.Unlock()
		}
		out.Close()
	}()
	go func() {
		_ = r.Wait()
		close(r.gone)
	}()
	t.Cleanup(func() {
		_ = r.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.gone:
		case <-time.After(deadline):
			_ = r.Process.Kill()
			<-r.gone
		}
		if t.Failed() {
			t.Logf("ebb up %s wrote:\n%s", strings.Join(args, " "), r.text())
		}
	})
	return r
}

func (r *run) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// await waits for a line that contains text.
func (r *run) await(t *testing.T, text string) {
	t.Helper()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	for {
		r.mu.Lock()
		found := slices.ContainsFunc(r.lines, func(line string) bool { return strings.Contains(line, text) })
		next := r.next
		r.mu.Unlock()
		if found {
			return
		}
		select {
		case <-next:
		case <-r.gone:
			t.Fatalf("ebb up ended without %q", text)
		case <-timer.C:
			t.Fatalf("no %q in time", text)
		}
	}
}

// end sends a signal and waits until the process is gone.
func (r *run) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := r.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.gone:
	case <-time.After(deadline):
		t.Fatalf("ebb up is still there after %s", signal)
	}
	if code := r.ProcessState.ExitCode(); signal != syscall.SIGKILL && code != 0 {
		t.Errorf("after %s the exit code is %d", signal, code)
	}
}

// eventually polls until do has no error.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func running(t *testing.T, data string) datadir.Running {
	t.Helper()
	dir, err := datadir.At(data)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := dir.ReadRunning()
	if !ok {
		t.Fatalf("no platform runs on %s", data)
	}
	return r
}

// answers calls the service hello once.
func answers(t *testing.T, gateway, want string) error {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+gateway, nil)
	if err != nil {
		return err
	}
	request.Host = "hello.default.localhost"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && !strings.HasPrefix(string(body), want) {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

// using lists the processes whose command line names the folder, but for ebb's users.
func using(data string) []string {
	var found []string
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, entry := range entries {
		text, err := os.ReadFile(entry)
		if err == nil && bytes.Contains(text, []byte(data)) {
			found = append(found, filepath.Base(filepath.Dir(entry))+" "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

func nothingLeft(t *testing.T, data string) {
	t.Helper()
	if left := using(data); len(left) > 0 {
		t.Errorf("left running:\n%s", strings.Join(left, "\n"))
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// TestLife takes one folder through starts and ends of all kinds.
func TestLife(t *testing.T) {
	ebb := programs(t)
	data := filepath.Join(t.TempDir(), "data")

	first := up(t, ebb, data)
	first.await(t, readyLine)
	t.Run("deploy, found by its kubeconfig", func(t *testing.T) {
		deploy := exec.Command(ebb, "deploy", "hello", "./examples/hello", "--env", "TARGET=life")
		deploy.Dir = "../../.."
		deploy.Env = append(os.Environ(), "KUBECONFIG="+running(t, data).Kubeconfig)
		if text, err := deploy.CombinedOutput(); err != nil || !strings.Contains(string(text), "revision hello-00001 ready") {
			t.Fatalf("%v:\n%s", err, text)
		}
		if err := answers(t, running(t, data).Gateway, "Hello life"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a second one is refused", func(t *testing.T) {
		text, err := exec.Command(ebb, "up", "--data", data, "--port", "0").CombinedOutput()
		if err == nil || !strings.Contains(string(text), "process "+strconv.Itoa(first.Process.Pid)) {
			t.Errorf("%v: %s; want the process id %d", err, text, first.Process.Pid)
		}
	})
	first.end(t, syscall.SIGINT)
	nothingLeft(t, data)

	second := up(t, ebb, data)
	second.await(t, readyLine)
	t.Run("the service comes back", func(t *testing.T) {
		if err := answers(t, running(t, data).Gateway, "Hello life"); err != nil {
			t.Error(err)
		}
	})
	parts := running(t, data).Parts
	second.end(t, syscall.SIGKILL)
	t.Run("killed, it takes its parts along", func(t *testing.T) {
		for name, pid := range parts {
			if pid == 0 {
				t.Errorf("%s has no process", name)
				continue
			}
			eventually(t, func() error {
				if alive(pid) {
					return fmt.Errorf("%s lives on as process %d", name, pid)
				}
				return nil
			})
		}
	})

	third := up(t, ebb, data)
	third.await(t, "etcd")
	third.end(t, syscall.SIGINT) // in the middle of the start
	nothingLeft(t, data)
	if strings.Contains(third.text(), readyLine) {
		t.Log("the third start was ready before it was interrupted")
	}
}

func TestATakenPort(t *testing.T) {
	ebb := programs(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	data := filepath.Join(t.TempDir(), "data")
	text, err := exec.Command(ebb, "up", "--data", data, "--port", strconv.Itoa(port)).CombinedOutput()
	for _, want := range []string{fmt.Sprintf("port %d", port), fmt.Sprintf("process %d", os.Getpid()), "--port PORT"} {
		if err == nil || !strings.Contains(string(text), want) {
			t.Errorf("%v: %s; want %q in it", err, text, want)
		}
	}
	nothingLeft(t, data)
}

func TestAFolderOfSomethingElse(t *testing.T) {
	ebb := programs(t)
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{nil, {"--clean"}} {
		text, err := exec.Command(ebb, append([]string{"up", "--data", data}, more...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(text), "--data DIR") {
			t.Errorf("%v: %v: %s", more, err, text)
		}
	}
	if entries, _ := os.ReadDir(data); len(entries) != 1 || entries[0].Name() != "thesis.txt" {
		t.Errorf("the folder was touched: %v", entries)
	}
}
