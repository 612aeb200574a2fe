package shim_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ebb.dev/ebb/local/shim"
)

// The test binary is three programs: the shim, the program in the container, and
// the tests.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "run" {
		if err := shim.Run(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "init" {
		shim.Init(os.Args[2])
	}
	if len(os.Args) == 4 && os.Args[1] == "exec" {
		os.Exit(shim.Enter(os.Args[2], os.Args[3]))
	}
	if len(os.Args) == 2 && os.Args[1] == "inside" {
		os.Exit(shim.Inside())
	}
	if len(os.Args) == 2 && os.Args[1] == "probe" { // see Best
		os.Exit(2)
	}
	os.Exit(m.Run())
}

const program = `package main
import ("fmt";"io";"os";"os/exec";"os/signal";"strconv";"strings";"syscall";"time")
func main() {
	if len(os.Args) < 2 { fmt.Println("hello"); return }
	switch os.Args[1] {
	case "exit": n, _ := strconv.Atoi(os.Args[2]); fmt.Fprintln(os.Stderr, "leaving"); os.Exit(n)
	case "signal": syscall.Kill(os.Getpid(), syscall.SIGKILL); time.Sleep(time.Minute)
	case "wait": c := make(chan os.Signal, 1); signal.Notify(c, syscall.SIGTERM); fmt.Println("waiting"); <-c; fmt.Println("asked to end"); os.Exit(3)
	case "stubborn": signal.Ignore(syscall.SIGTERM); fmt.Println("deaf"); time.Sleep(time.Hour)
	case "child": c := exec.Command("/proc/self/exe", "stubborn"); c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}; c.Stdout = os.Stdout; c.Start(); fmt.Println("child", c.Process.Pid); time.Sleep(50*time.Millisecond)
	case "echo": io.Copy(os.Stdout, os.Stdin); os.Exit(5)
	case "file": b, err := os.ReadFile(os.Args[2]); fmt.Println(string(b), err, os.WriteFile(os.Args[2], []byte("new"), 0o644) == nil)
	case "look":
		fmt.Println("pid", os.Getpid(), "uid", os.Getuid())
		d, _ := os.Getwd(); fmt.Println("dir", d)
		_, err := os.Stat("/marker"); fmt.Println("marker", err == nil)
		fmt.Println("tmp", os.WriteFile("/tmp/x", []byte("x"), 0o644) == nil)
		fmt.Println("root", os.WriteFile("/marker", []byte("changed"), 0o644) == nil)
		b, _ := os.ReadFile("/etc/resolv.conf"); fmt.Println("resolv", len(b) > 0)
		b, _ = os.ReadFile("/proc/self/status"); for _, l := range strings.Split(string(b), "\n") { if strings.HasPrefix(l, "CapEff") || strings.HasPrefix(l, "NoNewPrivs") { fmt.Println(l) } }
		f, err := os.OpenFile("/dev/null", os.O_WRONLY, 0); fmt.Println("null", err == nil); f.Close()
		fmt.Println("env", os.Getenv("A"))
	}
}`

// rootfs is an image's files with one program, owned by nobody in particular.
func rootfs(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb-shim-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"etc/hosts", "etc/resolv.conf", "marker"} {
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("go", "build", "-o", filepath.Join(root, "bin/program"), src)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return root
}

func run(t testing.TB, iso shim.Isolation, root string, args ...string) (*shim.Container, string) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { shim.Remove(dir) })
	c, err := shim.Start(t.Context(), os.Args[0], dir, shim.Spec{Isolation: iso, Rootfs: root, Args: append([]string{"/bin/program"}, args...), Env: []string{"A=b", "PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill(); c.Wait(context.Background()) })
	return c, dir
}

func wait(t testing.TB, c *shim.Container) shim.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e, err := c.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func log(t testing.TB, dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, shim.LogFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// logged waits until the log holds the text.
func logged(t testing.TB, dir, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(log(t, dir), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("log has no %q: %s", text, log(t, dir))
		}
	}
}

// modes are those that work here.
func modes(t testing.TB) map[string]shim.Isolation {
	best, why, err := shim.Best(t.Context(), os.Args[0], t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("best isolation here: %v (%s)", best, why)
	m := map[string]shim.Isolation{"none": {}}
	if best.Mounts {
		m["best"] = best
		ro := best
		ro.Overlay = false
		m["read-only root"] = ro
		if !best.Users {
			u := best
			u.Users = true
			m["users"] = u
		}
	}
	return m
}

func TestEnds(t *testing.T) {
	root := rootfs(t)
	for name, iso := range modes(t) {
		t.Run(name, func(t *testing.T) {
			c, dir := run(t, iso, root, "exit", "7")
			if e := wait(t, c); e.Code != 7 || e.Signal != 0 || e.Finished.Before(e.Started) {
				t.Errorf("exit 7: %+v", e)
			}
			if l := log(t, dir); !strings.HasSuffix(l, "Z stderr F leaving\n") {
				t.Errorf("log %q", l)
			}

			c, dir = run(t, iso, root, "wait")
			logged(t, dir, "waiting")
			if err := c.Stop(); err != nil {
				t.Fatal(err)
			}
			if e := wait(t, c); e.Code != 3 {
				t.Errorf("graceful end: %+v", e)
			}
			logged(t, dir, "asked to end")

			c, dir = run(t, iso, root, "stubborn")
			logged(t, dir, "deaf")
			c.Stop()
			c.Kill()
			if e := wait(t, c); e.Code != 137 || e.Signal != 9 {
				t.Errorf("killed: %+v", e)
			}

			c, dir = run(t, iso, root, "child")
			wait(t, c)
			if iso.PIDs {
				return // its number is the namespace's
			}
			_, number, _ := strings.Cut(log(t, dir), "child ")
			pid, err := strconv.Atoi(strings.Fields(number)[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, 0); err == nil {
				t.Errorf("a child in a session of its own has survived")
			}
		})
	}
}

func TestInside(t *testing.T) {
	root := rootfs(t)
	for name, iso := range modes(t) {
		t.Run(name, func(t *testing.T) {
			c, dir := run(t, iso, root, "look")
			wait(t, c)
			l := log(t, dir)
			want := []string{"null true", "env b"}
			if iso.Mounts {
				want = append(want, "dir /\n", "marker true", "tmp true", fmt.Sprint("root ", iso.Overlay), "NoNewPrivs:\t1")
				if _, err := os.Stat("/etc/resolv.conf"); err == nil {
					want = append(want, "resolv true")
				}
			} else {
				want = append(want, "dir "+root)
			}
			if iso.PIDs {
				want = append(want, "pid 1 uid 0")
			}
			for _, w := range want {
				if !strings.Contains(l, w) {
					t.Errorf("no %q in\n%s", w, l)
				}
			}
			if b, _ := os.ReadFile(filepath.Join(root, "marker")); len(b) > 0 {
				t.Error("the image's own files were changed")
			}
		})
	}
}

func TestCannotStart(t *testing.T) {
	root := rootfs(t)
	for name, iso := range modes(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := shim.Start(t.Context(), os.Args[0], dir, shim.Spec{Isolation: iso, Rootfs: root, Args: []string{"/nowhere"}})
			if err == nil || !strings.Contains(err.Error(), "/nowhere: no such file") {
				t.Errorf("error %v", err)
			}
			if e, ok, _ := shim.ReadExit(dir); !ok || e.Code != 128 {
				t.Errorf("exit %+v %v", e, ok)
			}
		})
	}
}

func TestAdopted(t *testing.T) {
	root := rootfs(t)
	c, dir := run(t, shim.Isolation{}, root, "wait")
	logged(t, dir, "waiting")
	other, running, err := shim.Adopt(dir)
	if err != nil || !running || other.State.Program != c.State.Program {
		t.Fatalf("%+v %v %v", other, running, err)
	}
	other.Stop()
	wait(t, c) // reaps
	if e, err := other.Wait(t.Context()); err != nil || e.Code != 3 {
		t.Errorf("%+v %v", e, err)
	}
	if _, running, _ := shim.Adopt(dir); running {
		t.Error("still running")
	}
}

// As another user, in a process of its own.
func TestUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests run as this unprivileged user already")
	}
	dir, err := os.MkdirTemp("", "ebb-unprivileged-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "shim.test")
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(binary, b, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(binary, "-test.run=TestEnds|TestInside|TestCannotStart|TestExec|TestMounts", "-test.v")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	path := os.Getenv("PATH")
	c.Env = []string{"PATH=" + path, "TMPDIR=" + dir, "HOME=" + dir, "GOCACHE=" + filepath.Join(dir, "cache"), "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local"}
	c.Dir = dir
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, l := range strings.Split(out.String(), "\n") {
		if strings.Contains(l, "best isolation") {
			t.Log(strings.TrimSpace(l))
		}
	}
}

// How long a program takes to run to its end, beside a plain exec.
func BenchmarkStart(b *testing.B) {
	root := rootfs(b)
	b.Run("plain exec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command(filepath.Join(root, "bin/program")).Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	binary := filepath.Join(filepath.Dir(root), "ebb-shim")
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "ebb.dev/ebb/local/cmd/ebb-shim").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for name, iso := range modes(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				c, err := shim.Start(b.Context(), binary, dir, shim.Spec{Isolation: iso, Rootfs: root, Args: []string{"/bin/program"}})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.Wait(b.Context()); err != nil {
					b.Fatal(err)
				}
				shim.Remove(dir)
			}
		})
	}
}
