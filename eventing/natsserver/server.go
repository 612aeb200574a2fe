package natsserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Options of a server. Only Folder has to be given.
type Options struct {
	Name   string
	Listen string // HOST:PORT; port 0 is any free one
	Folder string // of the events

	SyncAlways   bool          // sync every event before it is acknowledged
	SyncInterval time.Duration // sync so often otherwise; default 10 s

	MaxStore       int64 // bytes that topics may be promised in all; default: three quarters of the free disk
	MaxMemory      int64 // bytes of streams in memory, which Ebb does not use; default 64 MiB
	MaxPayload     int32 // bytes of one event with its attributes; default 2 MiB
	MaxConnections int   // default 10000

	// TLS is for clients; with ClientAuth they need a certificate of their own.
	TLS *tls.Config
	// User and Password, when given, are asked of every client.
	User, Password string

	Logger *slog.Logger // default: none
}

// Server runs.
type Server struct {
	s      *server.Server
	folder string
	broken atomic.Pointer[error] // what Wait saw of the streams
}

// Start runs a server and returns when it takes clients, with all streams recovered.
func Start(ctx context.Context, o Options) (*Server, error) {
	options, err := o.options()
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("NATS server on %s: %w", o.Listen, err)
	}
	if o.Logger != nil {
		s.SetLoggerV2(logger{o.Logger}, false, false, false)
	}
	go s.Start()
	for !s.ReadyForConnections(100 * time.Millisecond) {
		if !s.Running() && ctx.Err() == nil {
			return nil, fmt.Errorf("NATS server on %s did not start: see its log", o.Listen)
		}
		if ctx.Err() != nil {
			s.Shutdown()
			s.WaitForShutdown()
			return nil, ctx.Err()
		}
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("NATS server on %s: JetStream did not start on %s: see its log", o.Listen, o.Folder)
	}
	return &Server{s: s, folder: o.Folder}, nil
}

func (o Options) options() (*server.Options, error) {
	if o.Folder == "" {
		return nil, errors.New("NATS server: a folder for the events is needed")
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("NATS server: address to listen on %q: %w", o.Listen, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil || number < 0 || number > math.MaxUint16 {
		return nil, fmt.Errorf("NATS server: address to listen on %q: the port is not a number up to 65535", o.Listen)
	}
	if number == 0 {
		number = server.RANDOM_PORT
	}
	options := &server.Options{
		ServerName: o.Name, Host: host, Port: number, DontListen: false,
		NoSigs: true, NoLog: o.Logger == nil,
		JetStream: true, StoreDir: o.Folder,
		JetStreamMaxStore: o.MaxStore, JetStreamMaxMemory: fallback(o.MaxMemory, 64<<20),
		SyncAlways: o.SyncAlways, SyncInterval: fallback(o.SyncInterval, 10*time.Second),
		MaxPayload: fallback(o.MaxPayload, 2<<20), MaxConn: fallback(o.MaxConnections, 10000),
		MaxPending: 64 << 20, // bytes that wait for one client that reads slowly
		Username:   o.User, Password: o.Password,
	}
	if options.JetStreamMaxStore == 0 {
		options.JetStreamMaxStore = -1
	}
	if o.TLS != nil {
		options.TLSConfig, options.TLS, options.TLSTimeout = o.TLS, true, 5
		options.TLSVerify = o.TLS.ClientAuth == tls.RequireAndVerifyClientCert
	}
	return options, nil
}

func fallback[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// URL is where clients find it.
func (s *Server) URL() string { return s.s.ClientURL() }

// Ready is nil while events are stored. A server whose disk was full gives up its streams for
// good: it has to be started anew, which Wait says once there is room.
func (s *Server) Ready() error {
	if err := s.runs(); err != nil {
		return err
	}
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Server) runs() error {
	switch {
	case !s.s.Running():
		return errors.New("the NATS server does not run")
	case !s.s.JetStreamEnabled():
		return errors.New("the NATS server stores no events any more: its disk was full or failed; it has to be started anew")
	}
	return nil
}

// Wait blocks until the server ends, by Shutdown or by itself, or has to be started anew, or ctx ends.
func (s *Server) Wait(ctx context.Context) error {
	tick, streams := time.NewTicker(time.Second), time.NewTicker(lookAtStreams)
	defer tick.Stop()
	defer streams.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-streams.C:
			if err := s.look(); err != nil {
				return err
			}
		case <-tick.C:
			if err := s.runs(); err != nil {
				return err
			}
		}
	}
}

// Stats is what a server holds.
type Stats struct {
	Connections int
	Streams     int
	Consumers   int
	Bytes       uint64 // of events on disk
	Promised    uint64 // of the disk, to topics
	InBytes     int64
	InMessages  int64
	OutBytes    int64
	OutMessages int64
	Slow        int64 // clients that were cut off because they read too slowly
}

// Stats are read from the running server.
func (s *Server) Stats() Stats {
	out := Stats{Connections: s.s.NumClients(), Slow: s.s.NumSlowConsumers()}
	if v, err := s.s.Varz(nil); err == nil {
		out.InBytes, out.InMessages, out.OutBytes, out.OutMessages = v.InBytes, v.InMsgs, v.OutBytes, v.OutMsgs
	}
	if js, err := s.s.Jsz(nil); err == nil {
		out.Streams, out.Consumers = js.Streams, js.Consumers
		out.Bytes, out.Promised = js.Store, js.ReservedStore
	}
	return out
}

// Shutdown stops it; what was acknowledged is on disk.
func (s *Server) Shutdown() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}

type logger struct{ to *slog.Logger }

func (l logger) Noticef(format string, args ...any) { l.to.Info(fmt.Sprintf(format, args...)) }
func (l logger) Warnf(format string, args ...any)   { l.to.Warn(fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any)  { l.to.Error(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any)  { l.to.Error(fmt.Sprintf(format, args...)) }
func (l logger) Debugf(format string, args ...any)  { l.to.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Tracef(string, ...any)              {}
