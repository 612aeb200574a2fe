package supervise

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, script string, change func(*Spec), onEvent func(Event)) *Child {
	t.Helper()
	spawner := NewSpawner()
	spec := Spec{
		Name: "child", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "child.log"),
		PauseFirst: time.Millisecond, PauseMost: 4 * time.Millisecond, Grace: 30 * time.Second,
	}
	if change != nil {
		change(&spec)
	}
	c, err := Start(spawner, spec, onEvent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		spawner.Close()
	})
	return c
}

func TestCrashesAreRestartedWithAGrowingPause(t *testing.T) {
	events := make(chan Event, 100)
	start(t, "exit 3", nil, func(e Event) {
		select {
		case events <- e:
		default:
		}
	})
	want := []time.Duration{time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond, 4 * time.Millisecond}
	for i, pause := range want {
		e := <-events
		if e.Pause != pause || e.Cause != "exit status 3" {
			t.Errorf("event %d is %+v, want a pause of %s and exit status 3", i, e, pause)
		}
		if again := <-events; !again.Again || again.PID == 0 || again.PID == e.PID {
			t.Errorf("after event %d came %+v, want one of a new process", i, again)
		}
	}
}

func TestAChildThatEndsAtOnceSaysWhy(t *testing.T) {
	c := start(t, "echo the disk is on fire; exit 1", nil, func(Event) {})
	err := c.WaitReady(neverReady(t, c))
	if err == nil || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Fatalf("got %v, want the child's last words", err)
	}
}

// neverReady makes the child one that is never ready.
func neverReady(t *testing.T, c *Child) context.Context {
	c.spec.Ready = func(context.Context) error { return os.ErrNotExist }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestStopIsATermSignalFirst(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	ready := mark + ".ready"
	c := start(t, `trap 'echo term > `+mark+`; exit 0' TERM; touch `+ready+`; while :; do sleep 0.01; done`, func(s *Spec) {
		s.Ready = func(context.Context) error { _, err := os.Stat(ready); return err }
	}, func(Event) {})
	if err := c.WaitReady(context.Background()); err != nil {
		t.Fatal(err)
	}
	pid := c.PID()
	c.Stop()
	if text, err := os.ReadFile(mark); err != nil || string(text) != "term\n" {
		t.Errorf("the child saw no SIGTERM: %q, %v", text, err)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d is still there", pid)
	}
}

func TestKillDoesNotWait(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	c := start(t, `trap '' TERM; touch `+ready+`; while :; do sleep 0.01; done`, func(s *Spec) {
		s.Grace = time.Hour
		s.Ready = func(context.Context) error { _, err := os.Stat(ready); return err }
	}, func(Event) {})
	if err := c.WaitReady(context.Background()); err != nil {
		t.Fatal(err)
	}
	go c.Stop() // as a first Ctrl-C does
	c.Kill()
}

func TestDrainComesBeforeTheTermSignal(t *testing.T) {
	for _, killed := range []bool{false, true} {
		mark := filepath.Join(t.TempDir(), "mark")
		ready := mark + ".ready"
		drained := make(chan string, 1)
		draining := make(chan struct{})
		c := start(t, `trap 'echo term > `+mark+`; exit 0' TERM; touch `+ready+`; while :; do sleep 0.01; done`, func(s *Spec) {
			s.Ready = func(context.Context) error { _, err := os.Stat(ready); return err }
			s.Drain = func(ctx context.Context) {
				close(draining)
				if killed {
					<-ctx.Done()
				}
				text, _ := os.ReadFile(mark)
				drained <- string(text)
			}
		}, func(Event) {})
		if err := c.WaitReady(context.Background()); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan struct{})
		go func() {
			c.Stop()
			close(stopped)
		}()
		<-draining
		if killed {
			c.Kill()
		}
		if text := <-drained; text != "" {
			t.Errorf("killed %v: the child saw %q before the end of its drain", killed, text)
		}
		<-stopped
		if text, err := os.ReadFile(mark); (err == nil) == killed {
			t.Errorf("killed %v: then the child saw %q, %v", killed, text, err)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := OpenLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 100 {
		if _, err := l.Write([]byte("0123456789012345678\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{path, path + ".1"} {
		if info, err := os.Stat(f); err != nil || info.Size() > 100 {
			t.Errorf("%s: %v bytes, %v", f, info.Size(), err)
		}
	}
	if got := Tail(path, 2); got != "0123456789012345678\n0123456789012345678" {
		t.Errorf("tail %q", got)
	}
}
