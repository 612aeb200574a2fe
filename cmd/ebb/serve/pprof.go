package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/spf13/pflag"
)

// profiling serves Go's profiles where it is asked to.
type profiling struct {
	address string
	remote  bool
}

func (p *profiling) flags(f *pflag.FlagSet) {
	f.StringVar(&p.address, "pprof-listen", "", "`ADDRESS` of /debug/pprof/, on the loopback; empty for none")
	f.BoolVar(&p.remote, "pprof-remote", false, "let --pprof-listen be an address that others reach: a profile shows what is in memory")
}

// start serves until ctx ends. It is nil without an address.
func (p *profiling) start(ctx context.Context, log *slog.Logger) error {
	if p.address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(p.address)
	if err != nil {
		return fmt.Errorf("--pprof-listen: %w", err)
	}
	if ip := net.ParseIP(host); !p.remote && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--pprof-listen %s: a profile shows what is in memory, so 127.0.0.1:PORT is needed, or --pprof-remote", p.address)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.address)
	if err != nil {
		return fmt.Errorf("--pprof-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("profiles are not served any more", "error", err)
		}
	}()
	log.Info("serving profiles", "address", listener.Addr().String())
	return nil
}
