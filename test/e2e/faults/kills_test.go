package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/test/e2e/platform"
)

// Each process of the platform is killed once with traffic flowing.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	w.Deploy("warm", quick("min-scale", "2"))
	w.pods("warm", 2, 2)
	w.Deploy("zero", quick())
	for _, part := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "controller", "activator", "node", "registry"} {
		t.Run(part, func(t *testing.T) {
			w.AwaitZero("zero")
			before := names(w.pods("warm", 2, 2))
			load := w.rate(t, "warm", "/", 200)
			w.await(t, load, 200)
			killed := time.Now()
			pid := w.Kill(t, part, syscall.SIGKILL)
			during := w.fromZero(t)
			w.AwaitPart(t, part, pid)
			t.Logf("%s serves again after %v", part, time.Since(killed).Round(time.Millisecond))
			if err := <-during; err != nil {
				t.Logf("a call from zero right after the kill: %v", err)
				if part == "activator" {
					t.Error("it should have waited for the activator to be back")
				}
			} else {
				t.Logf("a call from zero right after the kill was answered after %v", time.Since(killed).Round(time.Millisecond))
			}
			until(t, "calls from zero are answered", func() error {
				_, err := w.get(t.Context(), "zero", "/")
				return err
			})
			w.AwaitZero("zero")
			began := time.Now()
			if _, err := w.get(t.Context(), "zero", "/"); err != nil {
				t.Errorf("from zero, after all is well again: %v", err)
			}
			t.Logf("from zero afterwards: %v", time.Since(began).Round(time.Millisecond))
			w.await(t, load, 100)
			load.stopClean(t)
			for name := range before {
				if !names(w.pods("warm", 2, 2))[name] {
					t.Logf("pod %s was replaced", name)
				}
			}
		})
	}
	t.Run("gateway", func(t *testing.T) {
		load := w.rate(t, "warm", "/", 200)
		w.await(t, load, 200)
		w.restart("gateway")
		w.await(t, load, 200)
		lost := load.stop(t)
		t.Logf("killed gateway: %d requests failed: it is the end of its own connections, and nothing listens until it is back", lost)
		clean := w.rate(t, "warm", "/", 200)
		w.await(t, clean, 200)
		clean.stopClean(t)
		if _, err := w.get(t.Context(), "zero", "/"); err != nil {
			t.Errorf("from zero: %v", err)
		}
	})
}

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

// fromZero begins one call of the service at zero, bounded by a minute.
func (w *world) fromZero(t *testing.T) chan error {
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		defer cancel()
		_, err := w.get(ctx, "zero", "/")
		done <- err
	}()
	return done
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
