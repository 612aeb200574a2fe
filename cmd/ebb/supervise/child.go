package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec is a child process to keep running.
type Spec struct {
	Name string
	Path string
	Args []string
	Env  []string // KEY=VALUE, added to this process's environment
	Dir  string
	Log  string // file; its output goes there
	// Output gets the child's output beside the log; may be nil.
	Output io.Writer

	// Ready asks once whether the child serves; nil means it serves as soon as it runs.
	Ready func(context.Context) error

	// Drain lets the child finish what it does, before SIGTERM; nil when SIGTERM does that. It has to
	// return soon when its context ends, which it does with the child or with Kill.
	Drain func(context.Context)

	Grace time.Duration // between SIGTERM and SIGKILL; 5 s when 0

	PauseFirst, PauseMost time.Duration // before a restart; 200 ms and 10 s when 0
}

// Event is something worth a line: a child that ended on its own and is started again,
// and then that it runs again.
type Event struct {
	Name  string
	PID   int
	Again bool          // it runs again, as PID; else it ended, and was PID
	Cause string        // exit status, or why it could not be started
	Pause time.Duration // until the next start
}

const (
	logLimit       = 8 << 20 // bytes, per child, twice
	steadyAfter    = 30 * time.Second
	failuresAtMost = 3 // before it was ever ready
	readyPoll      = 50 * time.Millisecond
)

// Child is a process under supervision. Safe for concurrent use.
type Child struct {
	spec    Spec
	spawner *Spawner
	onEvent func(Event)
	log     *Log

	stop     chan struct{} // closed by Stop
	stopOnce sync.Once
	gone     chan struct{} // closed when the process is gone and will not come back
	hopeless chan struct{} // closed after failuresAtMost failures before it was ready

	mu       sync.Mutex
	cmd      *exec.Cmd
	ready    bool
	restarts int
	since    time.Time
	cause    string
}

// Start begins to keep the child running. onEvent is called from one goroutine at a
// time. Only an unusable log file is an error here; a child that cannot run fails in
// WaitReady.
func Start(spawner *Spawner, spec Spec, onEvent func(Event)) (*Child, error) {
	log, err := OpenLog(spec.Log, logLimit)
	if err != nil {
		return nil, fmt.Errorf("%s: open its log: %w", spec.Name, err)
	}
	if spec.Grace == 0 {
		spec.Grace = 5 * time.Second
	}
	if spec.PauseFirst == 0 {
		spec.PauseFirst = 200 * time.Millisecond
	}
	if spec.PauseMost == 0 {
		spec.PauseMost = 10 * time.Second
	}
	c := &Child{
		spec: spec, spawner: spawner, onEvent: onEvent, log: log,
		stop: make(chan struct{}), gone: make(chan struct{}), hopeless: make(chan struct{}),
	}
	go c.keep()
	return c, nil
}

// Name is the child's name.
func (c *Child) Name() string { return c.spec.Name }

// PID of the running process; 0 while there is none.
func (c *Child) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil || c.cmd.Process == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// Restarts is how often it was started again.
func (c *Child) Restarts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}

func (c *Child) keep() {
	defer close(c.gone)
	defer c.log.Close()
	pause, failures := c.spec.PauseFirst, 0
	for {
		began := time.Now()
		pid, cause := c.once()
		select {
		case <-c.stop:
			return
		default:
		}
		if time.Since(began) > steadyAfter {
			pause = c.spec.PauseFirst
		}
		c.mu.Lock()
		c.restarts++
		c.cause = cause
		if !c.ready {
			if failures++; failures == failuresAtMost {
				close(c.hopeless)
			}
		}
		c.mu.Unlock()
		c.onEvent(Event{Name: c.spec.Name, PID: pid, Cause: cause, Pause: pause})
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.stop:
			timer.Stop()
			return
		}
		pause = min(2*pause, c.spec.PauseMost)
	}
}

// once runs the process until it ends and says how.
func (c *Child) once() (int, string) {
	cmd := exec.Command(c.spec.Path, c.spec.Args...)
	cmd.Env = append(os.Environ(), c.spec.Env...)
	cmd.Dir = c.spec.Dir
	var output io.Writer = c.log
	if c.spec.Output != nil {
		output = io.MultiWriter(c.log, c.spec.Output)
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = time.Second // its own children may hold the pipe
	if err := c.spawner.Start(cmd); err != nil {
		return 0, err.Error()
	}
	c.mu.Lock()
	c.cmd, c.since = cmd, time.Now()
	again := c.restarts > 0
	c.mu.Unlock()
	if again {
		c.onEvent(Event{Name: c.spec.Name, PID: cmd.Process.Pid, Again: true})
	}
	ended := make(chan error, 1)
	alive, gone := context.WithCancel(context.Background())
	defer gone()
	go func() {
		ended <- cmd.Wait()
		gone()
	}()
	var err error
	select {
	case err = <-ended:
	case <-c.stop:
		if c.spec.Drain != nil {
			c.spec.Drain(alive)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(c.spec.Grace)
		select {
		case err = <-ended:
			timer.Stop()
		case <-timer.C:
			_ = cmd.Process.Kill()
			err = <-ended
		}
	}
	c.mu.Lock()
	c.cmd = nil
	c.mu.Unlock()
	if err == nil {
		return cmd.Process.Pid, "exit status 0"
	}
	return cmd.Process.Pid, err.Error()
}

// WaitReady blocks until the child serves. It gives up when ctx ends or the child has
// ended three times without ever having served; the error ends with its last log lines.
func (c *Child) WaitReady(ctx context.Context) error {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	var last error
	for {
		if c.PID() != 0 {
			if c.spec.Ready == nil {
				last = nil
			} else {
				last = c.spec.Ready(ctx)
			}
			if last == nil && c.PID() != 0 {
				c.mu.Lock()
				c.ready = true
				c.mu.Unlock()
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-c.stop:
			return fmt.Errorf("%s: stopped before it was ready", c.spec.Name)
		case <-c.hopeless:
			c.mu.Lock()
			cause := c.cause
			c.mu.Unlock()
			return c.explain(fmt.Errorf("%s ends as soon as it starts (%s)", c.spec.Name, cause))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Cause(ctx)
			}
			return c.explain(fmt.Errorf("%s is not ready in time: %w", c.spec.Name, errors.Join(last, ctx.Err())))
		}
	}
}

func (c *Child) explain(err error) error {
	tail := Tail(c.spec.Log, 8)
	return fmt.Errorf("%w\n  last lines of %s:\n    %s", err, c.spec.Log, strings.ReplaceAll(tail, "\n", "\n    "))
}

// Stop ends the child: its Drain, SIGTERM, and SIGKILL after its grace. It returns when the
// process is gone.
func (c *Child) Stop() {
	c.stopOnce.Do(func() { close(c.stop) })
	<-c.gone
}

// Kill ends the child at once.
func (c *Child) Kill() {
	c.stopOnce.Do(func() { close(c.stop) })
	c.mu.Lock()
	if c.cmd != nil && c.cmd.Process != nil {
		_ = c.cmd.Process.Kill()
	}
	c.mu.Unlock()
	<-c.gone
}
