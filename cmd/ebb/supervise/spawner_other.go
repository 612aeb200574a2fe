//go:build !linux

package supervise

import (
	"os/exec"
	"syscall"
)

// A Spawner starts processes in groups of their own. Only Linux can tie their lives to
// this process; elsewhere what a killed `ebb up` leaves is ended by hand.
type Spawner struct{}

// NewSpawner makes a Spawner.
func NewSpawner() *Spawner { return &Spawner{} }

// Start is cmd.Start in a process group of its own.
func (s *Spawner) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}

// Close does nothing.
func (s *Spawner) Close() {}
