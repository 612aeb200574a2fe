package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"ebb.dev/ebb/cmd/ebb/supervise"
)

// logName is the file in the gateway's folder that has the end of what Envoy said.
const logName = "envoy.log"

// Run keeps the gateway running until ctx ends, drains it then, and returns when Envoy is
// gone. The bootstrap and Envoy's log are written to the folder. healthListen, if not "",
// is where /healthz, /readyz and /metrics are answered. The error is of a gateway that cannot be started.
func Run(ctx context.Context, c Config, folder, healthListen string, output io.Writer) error {
	var health net.Listener
	if healthListen != "" {
		var err error
		if health, err = (&net.ListenConfig{}).Listen(ctx, "tcp", healthListen); err != nil {
			return fmt.Errorf("--metrics-listen: %w", err)
		}
	}
	return run(ctx, c, folder, health, output, func(*supervise.Spec) {})
}

func run(ctx context.Context, c Config, folder string, health net.Listener, output io.Writer, change func(*supervise.Spec)) error {
	c.File = filepath.Join(folder, "envoy.yaml")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("the gateway's folder: %w", err)
	}
	if err := c.Write(); err != nil {
		return err
	}
	spec := c.Spec("envoy")
	spec.Log, spec.Output = filepath.Join(folder, logName), output
	change(&spec)
	var draining atomic.Bool
	drain := spec.Drain
	spec.Drain = func(ctx context.Context) {
		draining.Store(true)
		c.Logger.Info("draining", "notice", c.Notice, "timeout", c.Timeout)
		drain(ctx)
	}
	if health != nil {
		server := probes(NewAdmin(c.Bootstrap.Admin), &draining)
		go func() { _ = server.Serve(health) }()
		defer server.Close()
	}
	spawner := supervise.NewSpawner()
	defer spawner.Close()
	child, err := supervise.Start(spawner, spec, func(e supervise.Event) {
		if e.Again {
			c.Logger.Info("Envoy runs again", "pid", e.PID)
		} else {
			c.Logger.Error("Envoy ended", "pid", e.PID, "cause", e.Cause, "again in", e.Pause)
		}
	})
	if err != nil {
		return err
	}
	defer child.Stop()
	if err := child.WaitReady(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	c.Logger.Info("ready", "heap bytes", c.Bootstrap.Overload.HeapBytes, "connections", c.Bootstrap.Overload.Connections)
	<-ctx.Done()
	return nil
}

// probes answers them. The gateway is healthy while this process is; a dead Envoy is started again.
func probes(admin *Admin, draining *atomic.Bool) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		err := admin.Ready(r.Context())
		if draining.Load() {
			err = errors.New("draining")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		if err := admin.metrics(r.Context(), w); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
}
