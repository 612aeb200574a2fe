package gateway

import (
	"log/slog"
	"os"
	"strconv"
	"time"

	"ebb.dev/ebb/cmd/ebb/supervise"
	"ebb.dev/ebb/proxy/envoy"
)

// Config is one gateway.
type Config struct {
	Bootstrap   envoy.BootstrapConfig // Admin is needed
	File        string                // where the bootstrap is written
	Envoy       string                // path of the program
	Concurrency int                   // worker threads
	Notice      time.Duration         // see [Drain]
	Timeout     time.Duration
	Logger      *slog.Logger
}

// Write makes the bootstrap's file.
func (c Config) Write() error {
	text, err := envoy.Bootstrap(c.Bootstrap)
	if err != nil {
		return err
	}
	return os.WriteFile(c.File, text, 0o600)
}

// Spec is the child process: ready when Envoy is, and drained before it is ended. The caller
// adds where its output goes.
func (c Config) Spec(name string) supervise.Spec {
	admin := NewAdmin(c.Bootstrap.Admin)
	return supervise.Spec{
		Name: name, Path: c.Envoy,
		Args: []string{
			"--config-path", c.File, "--disable-hot-restart", "--log-level", "warning",
			"--concurrency", strconv.Itoa(max(c.Concurrency, 1)),
			// Every answer of a draining gateway asks its client to leave, not a growing part of them.
			"--drain-strategy", "immediate", "--drain-time-s", strconv.Itoa(max(1, int((c.Notice+c.Timeout)/time.Second))),
		},
		Ready: admin.Ready,
		Drain: Drain{Admin: admin, Notice: c.Notice, Timeout: c.Timeout, Logger: c.Logger}.Run,
		Grace: 2 * time.Second, // Envoy ends at once
	}
}
