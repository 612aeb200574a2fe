package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/test/e2e/platform"
)

// The node is killed while a namespace is deleted: it goes, and what its pods use is told again.
func TestNamespaceDeletedWithoutTheNode(t *testing.T) {
	w := newWorld(t)
	w.Deploy("warm", quick("min-scale", "1"))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.In + "-gone"}}
	if err := w.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	pid := w.Kill(t, "node", syscall.SIGKILL)
	if err := w.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	w.AwaitPart(t, "node", pid)
	until(t, "the namespace is gone", func() error {
		err := w.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(ns), ns)
		if err == nil {
			return fmt.Errorf("it is %s: %+v", ns.Status.Phase, ns.Status.Conditions)
		}
		return client.IgnoreNotFound(err)
	})
	until(t, "kubectl top shows the pod", func() error {
		out, errOut, err := w.Command(t.Context(), "", "kubectl", "-n", w.In, "top", "pod")
		if err == nil && !strings.Contains(out, "warm-") {
			err = fmt.Errorf("%s%s", out, errOut)
		}
		return err
	})
}

// `ebb up` itself is killed: nothing of it is left after the next start and a regular end.
func TestUpKilled(t *testing.T) {
	shared.Platform(t) // skips where there is none
	p, err := platform.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if left := processes(p.Data); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	})
	n := p.Namespace(t)
	n.Deploy("web", quick("min-scale", "1"))
	n.MustFetch(t, n.URL("web", "/"))
	ours := processes(p.Data)
	if len(ours) < 9 {
		t.Fatalf("only %d processes are known by the folder: %v", len(ours), ours)
	}
	if _, err := p.Down(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Logf("of %d processes %d are left right after the kill: %v", len(ours), len(processes(p.Data)), processes(p.Data))
	if err := p.Up(t.Context(), "--envoy", os.Getenv("ENVOY")); err != nil {
		t.Fatal(err)
	}
	for pid := range processes(p.Data) {
		if what, was := ours[pid]; was {
			t.Errorf("process %s of the killed platform still runs: %s", pid, what)
		}
	}
	until(t, "the service is called", func() error { _, err := p.Fetch(t.Context(), platform.External, n.URL("web", "/")); return err })
}

// processes whose command line, program or working folder names the folder.
func processes(folder string) map[string]string {
	out := map[string]string{}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		text, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		about := strings.ReplaceAll(string(text), "\x00", " ")
		for _, link := range []string{"exe", "cwd", "root"} {
			to, _ := os.Readlink(filepath.Join(p, link))
			about += " " + to
		}
		if strings.Contains(about, folder) {
			out[filepath.Base(p)] = about
		}
	}
	return out
}
