package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ebb.dev/ebb/cmd/ebb/supervise"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/trust"
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

// Write makes the bootstrap's file, and those that it refers to beside it.
func (c Config) Write() error {
	folder, err := filepath.Abs(filepath.Dir(c.File))
	if err != nil {
		return err
	}
	if c.Bootstrap.TLS != nil {
		secured := *c.Bootstrap.TLS
		secured.Folder, secured.Controller = folder, trust.Controller.URI().String()
		c.Bootstrap.TLS = &secured
	}
	files, err := envoy.BootstrapFiles(c.Bootstrap)
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			return err
		}
	}
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
