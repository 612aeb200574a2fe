package supervise

import (
	"os/exec"
	"runtime"
	"syscall"
)

// A Spawner starts processes which the kernel ends when this process ends, however it
// ends. The kernel ties that to the thread that forked, so one thread, which lives as
// long as the Spawner, does all the forking. Safe for concurrent use.
type Spawner struct {
	requests chan spawn
}

type spawn struct {
	cmd  *exec.Cmd
	done chan error
}

// NewSpawner starts the thread. Close it only when all children are gone.
func NewSpawner() *Spawner {
	s := &Spawner{requests: make(chan spawn)}
	go func() {
		runtime.LockOSThread()
		for r := range s.requests {
			r.done <- r.cmd.Start()
		}
	}()
	return s
}

// Start is cmd.Start, in a process group of its own so that a Ctrl-C in the terminal
// reaches only this process, and with SIGKILL for the child when this process dies.
func (s *Spawner) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r := spawn{cmd, make(chan error, 1)}
	s.requests <- r
	return <-r.done
}

// Close ends the thread, and with it every child that still runs.
func (s *Spawner) Close() { close(s.requests) }
