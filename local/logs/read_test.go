package logs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ebb.dev/ebb/local/logs"
)

func write(t *testing.T, dir, name string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, l := range lines {
		fmt.Fprintln(f, l)
	}
}

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "log.1", "2026-01-01T00:00:01Z stdout F one", "2026-01-01T00:00:02Z stdout P tw")
	write(t, dir, "log", "2026-01-01T00:00:02Z stdout F o", "2026-01-01T00:00:03Z stderr F three", "2026-01-01T00:00:04Z stdout F ")
	for _, c := range []struct {
		o    logs.Options
		want string
	}{
		{logs.Options{Tail: -1}, "one\ntwo\nthree\n\n"},
		{logs.Options{Tail: 2}, "three\n\n"},
		{logs.Options{Tail: 0}, ""},
		{logs.Options{Tail: 99}, "one\ntwo\nthree\n\n"},
		{logs.Options{Tail: -1, Since: time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC)}, "three\n\n"},
		{logs.Options{Tail: -1, LimitBytes: 6}, "one\ntw"},
		{logs.Options{Tail: 3, Timestamps: true}, "2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z \n"},
	} {
		var b strings.Builder
		if err := logs.Copy(t.Context(), &b, dir, c.o, nil, func() {}); err != nil || b.String() != c.want {
			t.Errorf("%+v: %q %v, want %q", c.o, b.String(), err, c.want)
		}
	}
}

type locked struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *locked) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *locked) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func TestFollowOverRotation(t *testing.T) {
	dir := t.TempDir()
	ended := make(chan struct{})
	var out locked
	done := make(chan error, 1)
	go func() {
		done <- logs.Copy(t.Context(), &out, dir, logs.Options{Follow: true, Tail: -1}, ended, func() {})
	}()
	seen := func(s string) {
		for deadline := time.Now().Add(5 * time.Second); !strings.Contains(out.String(), s); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%q not in %q", s, out.String())
			}
		}
	}
	write(t, dir, "log", "T stdout F first")
	seen("first\n")
	write(t, dir, "log", "T stdout F second")
	if err := os.Rename(filepath.Join(dir, "log"), filepath.Join(dir, "log.1")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "log", "T stdout F third")
	seen("third\n")
	write(t, dir, "log", "T stdout F last")
	close(ended)
	if err := <-done; err != nil || out.String() != "first\nsecond\nthird\nlast\n" {
		t.Errorf("%q %v", out.String(), err)
	}
}
