package platform

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Parts are the processes that tests may kill.
var parts = [...]string{"activator", "controller", "etcd", "gateway", "kube-apiserver", "kube-controller-manager", "node", "registry"}

// Parts returns the names of the platform's parts, sorted.
func Parts() []string { return slices.Clone(parts[:]) }

// Kill sends a signal to a part and returns the process id it had.
func (p *Platform) Kill(t testing.TB, part string, signal syscall.Signal) int {
	t.Helper()
	p.Embedded(t, "a part is killed as a process")
	pid := p.Running().Parts[part]
	if pid == 0 {
		t.Fatalf("%s does not run; running are %v", part, p.Running().Parts)
	}
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatalf("kill %s (process %d): %v", part, pid, err)
	}
	return pid
}

// AwaitPart waits until a part runs as another process than the one given, and, for the
// parts that say so, until it is ready. It returns the new process id.
func (p *Platform) AwaitPart(t testing.TB, part string, not int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Deadline)
	defer cancel()
	pid := 0
	err := poll(ctx, func() error {
		running := p.Running()
		if pid = running.Parts[part]; pid == 0 || pid == not {
			return fmt.Errorf("%s has not been started again (process %d)", part, pid)
		}
		if address := running.Activators[part]; address != "" {
			return answers(ctx, "http://"+address+"/readyz")
		}
		if address := running.Controllers[part]; address != "" {
			return answers(ctx, "http://"+address+"/readyz")
		}
		switch part {
		case "registry":
			return answers(ctx, "http://"+running.Registry+"/v2/")
		case "eventing":
			return answers(ctx, "http://"+running.Eventing+"/readyz")
		case "nats":
			return answers(ctx, "http://"+running.NATS+"/readyz")
		case "etcd", "kube-apiserver":
			return p.healthy(ctx)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func answers(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := Call(http.DefaultClient, r)
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, answer)
	}
	return err
}

// Command runs a command of ebb, or kubectl where that is args[0], against the platform and
// returns what it printed.
func (p *Platform) Command(ctx context.Context, input string, args ...string) (stdout, stderr string, err error) {
	program := p.Ebb
	if args[0] == "kubectl" {
		program = filepath.Join(filepath.Dir(p.Ebb), "ebb-kube")
	} else if p.cluster == nil {
		args = append(slices.Clone(args), "--data", p.Data)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.Running().Kubeconfig)
	cmd.Dir = Root()
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// healthy asks the API server, which asks etcd.
func (p *Platform) healthy(ctx context.Context) error {
	return p.List(ctx, &corev1.NamespaceList{}, client.Limit(1))
}

// logOf is the last lines of a part's log that have a word in them or tell of trouble.
func (p *Platform) logOf(part, word string, lines int) string {
	if p.cluster != nil {
		return p.cluster.log(part, word, lines)
	}
	text, err := os.ReadFile(p.dir.Log(part))
	if err != nil {
		return err.Error()
	}
	return told(string(text), word, lines)
}

// told is the last lines that have a word in them or tell of trouble.
func told(text, word string, lines int) string {
	var all []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) || strings.Contains(line, "WARN") || strings.Contains(line, "ERROR") || strings.Contains(line, "panic") {
			all = append(all, line)
		}
	}
	return strings.Join(all[max(0, len(all)-lines):], "")
}
