package shim_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebb.dev/ebb/local/shim"
)

// execute runs a command in a container and gives its code and output.
func execute(t *testing.T, c *shim.Container, ctx context.Context, input string, args ...string) (int, string, error) {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer outR.Close()
	go func() { _, _ = io.WriteString(inW, input); inW.Close() }()
	read := make(chan string)
	go func() { b, _ := io.ReadAll(outR); read <- string(b) }()
	code, err := c.Exec(ctx, os.Args[0], shim.Command{Args: args, Stdin: inR, Stdout: outW, Stderr: outW})
	inR.Close()
	outW.Close()
	return code, <-read, err
}

func TestExec(t *testing.T) {
	root := rootfs(t)
	for name, iso := range modes(t) {
		t.Run(name, func(t *testing.T) {
			c, dir := run(t, iso, root, "wait")
			logged(t, dir, "waiting")
			code, out, err := execute(t, c, t.Context(), "hello", "/bin/program", "echo")
			if code != 5 || out != "hello" || err != nil {
				t.Errorf("echo: %d %q %v", code, out, err)
			}
			code, out, err = execute(t, c, t.Context(), "", "program", "look")
			if code != 0 || err != nil || !strings.Contains(out, "env b") {
				t.Errorf("look: %d %q %v", code, out, err)
			}
			if iso.Mounts && !strings.Contains(out, "marker true") || iso.Mounts && !strings.Contains(out, "dir /\n") || !strings.Contains(out, "NoNewPrivs:\t1") {
				t.Errorf("it is not inside: %s", out)
			}
			if iso.PIDs && !strings.Contains(out, "uid 0") {
				t.Errorf("user: %s", out)
			}
			var failed *shim.Error
			if _, _, err := execute(t, c, t.Context(), "", "/nowhere"); !errors.As(err, &failed) || !strings.Contains(err.Error(), "no such file") {
				t.Errorf("a program that is not there: %v", err)
			}
			if code, _, err := execute(t, c, t.Context(), "", "program", "signal"); code != 137 || err != nil {
				t.Errorf("killed by itself: %d %v", code, err)
			}
			// The end of the context is the end of the program.
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, _ = r.Read(make([]byte, 4))
				cancel()
				_, _ = io.Copy(io.Discard, r)
			}()
			if _, err := c.Exec(ctx, os.Args[0], shim.Command{Args: []string{"program", "stubborn"}, Stdout: w}); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			w.Close()
			c.Stop()
			if e := wait(t, c); e.Code != 3 {
				t.Errorf("the container's own program: %+v", e)
			}
			if _, _, err := execute(t, c, t.Context(), "", "program", "look"); iso.Mounts && err == nil {
				t.Error("a program in a container that has ended")
			}
		})
	}
}

func TestMounts(t *testing.T) {
	root := rootfs(t)
	for name, iso := range modes(t) {
		if !iso.Mounts {
			continue
		}
		t.Run(name, func(t *testing.T) {
			source := t.TempDir()
			if err := os.WriteFile(filepath.Join(source, "f"), []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{true, false} {
				dir := t.TempDir()
				t.Cleanup(func() { shim.Remove(dir) })
				c, err := shim.Start(t.Context(), os.Args[0], dir, shim.Spec{Isolation: iso, Rootfs: root, ReadOnly: true, Args: []string{"/bin/program", "file", "/data/deep/f"},
					Mounts: []shim.Mount{{Source: source, Target: "/data/deep", ReadOnly: readOnly}}})
				if err != nil {
					t.Fatal(err)
				}
				wait(t, c)
				if l := log(t, dir); !strings.Contains(l, "old <nil> "+map[bool]string{true: "false", false: "true"}[readOnly]) {
					t.Errorf("read-only %v: %s", readOnly, l)
				}
			}
		})
	}
}
