package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/inspect"
)

// inspectListen is where `ebb events` reaches an eventing part, on its own machine or by a port-forward to its pod.
const inspectListen = "127.0.0.1:9092"

// serveInspect answers `ebb events` until ctx ends. The address has to be of the loopback: who reaches it reads every event.
func serveInspect(ctx context.Context, address string, e engine.Engine, log *slog.Logger) error {
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("--inspect-listen %q: it has to be an address of the loopback, like %s, because whoever reaches it reads every event", address, inspectListen)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--inspect-listen: %w", err)
	}
	server := &http.Server{
		Handler: inspect.New(e), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("`ebb events` is not answered any more", "address", address, "error", err)
		}
	}()
	return nil
}
