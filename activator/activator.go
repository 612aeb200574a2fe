package activator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/trust"
)

// Activator is a buffering proxy with its addresses open. It is made by [New] and
// works while [Activator.Run] does.
type Activator struct {
	options   Options
	conn      *grpc.ClientConn
	metrics   *metrics
	health    health
	hangups   *hangups
	table     *table
	control   *control
	member    *membership
	reporter  *reporter
	forwarder *forwarder
	tracer    *tracer
	drainer   *drainer
	stop      context.CancelFunc // of probes

	data, drains, healths net.Listener // the last two may be nil
}

// Run opens the addresses and serves until ctx ends and requests in progress have
// ended or used up the grace. It returns nil then, or why it could not serve.
func Run(ctx context.Context, o Options) error {
	a, err := New(o)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// New opens the addresses, so that an address in use is an error here; it does not
// connect to anything yet. Run must be called, it closes them.
func New(o Options) (_ *Activator, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	a := &Activator{options: o}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	for _, l := range []struct {
		listener *net.Listener
		address  string
		what     string
	}{
		{&a.data, o.Listen, "requests"},
		{&a.drains, o.DrainListen, "preStop hooks"},
		{&a.healths, o.HealthListen, "health and metrics"},
	} {
		if l.address == "" {
			continue
		}
		config := net.ListenConfig{}
		if l.listener == &a.drains && o.DrainShared {
			config.Control = sharePort
		}
		if *l.listener, err = config.Listen(context.Background(), "tcp", l.address); err != nil {
			return nil, fmt.Errorf("activator: address for %s: %w: choose another one", l.what, err)
		}
	}

	hello := &link.Hello{Name: o.Name, Process: newProcess(), Address: o.Advertise}
	if hello.Address == "" {
		hello.Address = a.data.Addr().String()
	}
	if at, err := netip.ParseAddrPort(hello.Address); err != nil || at.Addr().IsUnspecified() || at.Port() == 0 {
		return nil, fmt.Errorf("activator options: Advertise: %q is not the IP and port where gateways reach it, and Listen has none", o.Advertise)
	}

	creds := insecure.NewCredentials()
	if o.Trust != nil {
		creds = credentials.NewTLS(trust.Client(o.Trust, trust.Controller))
	}
	if a.conn, err = link.Dial(o.ControlAddress, creds); err != nil {
		return nil, fmt.Errorf("activator: control plane %s: %w", o.ControlAddress, err)
	}
	if a.hangups, err = newHangups(); err != nil {
		return nil, fmt.Errorf("activator: watch connections: %w", err)
	}

	a.metrics = newMetrics(func() int { return a.table.size() })
	a.reporter = newReporter(o.Name, a.conn, o.Logger, a.metrics)
	a.tracer = &tracer{logger: o.Logger}
	begin := time.Now()
	probes, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.table = &table{
		env: &environment{
			name: o.Name, self: hello.GetName() + "@" + hello.GetProcess(), now: func() time.Duration { return time.Since(begin) },
			holdTimeout: o.HoldTimeout, total: &bound{max: int64(o.MaxHeldTotal)}, bytes: &bound{max: int64(o.MaxHeldBytes)},
			probe: prober{once: newNetProbe().once, metrics: a.metrics}, metrics: a.metrics,
			reporter: a.reporter, tracer: a.tracer, context: probes,
		},
		maxHeld: o.MaxHeld, maxEntries: o.MaxRevisions, maxUnknown: o.MaxUnknown, idleAfter: o.IdleAfter,
		watch:   func(name string, on bool) { a.control.want(name, on) },
		unknown: map[string]struct{}{},
		fences:  fences{all: map[string]*fence{}},
	}
	a.member = newMembership(hello, a.conn, a.table, o.Logger, func() { a.health.joined.Store(true) })
	a.table.env.member = a.member
	a.control = newControl(o.Name, a.conn, a.table, o.Logger, a.metrics)
	a.forwarder = newForwarder(a.table, a.metrics, a.hangups, a.tracer, o.DialTimeout)
	a.drainer = newDrainer(a.conn, o.DrainWait, a.metrics)
	return a, nil
}

// Addr is where requests are taken.
func (a *Activator) Addr() net.Addr { return a.data.Addr() }

// DrainAddr is where preStop hooks are answered, nil if nowhere.
func (a *Activator) DrainAddr() net.Addr { return addr(a.drains) }

// HealthAddr is where health and metrics are served, nil if nowhere.
func (a *Activator) HealthAddr() net.Addr { return addr(a.healths) }

func addr(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Run serves until ctx ends. Then gateways are told to send nothing new; what waits is
// handed back where another activator can take it; requests in
// progress, websockets too, get the grace to end, a last report is
// sent and all is closed. It returns nil, or why it could not go on. It may be called once.
func (a *Activator) Run(ctx context.Context) error {
	defer a.close()
	// What the requests need goes on until the last of them has ended.
	support, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var supporters sync.WaitGroup
	for _, run := range []func(context.Context){a.control.run, a.member.run, a.reporter.run, a.table.sweep} {
		supporters.Go(func() { run(support) })
	}

	type served struct {
		listener net.Listener
		server   *http.Server
	}
	all := []served{{a.data, a.dataServer()}}
	if a.drains != nil {
		all = append(all, served{netutil.LimitListener(a.drains, a.options.MaxHooks), &http.Server{Handler: a.drainer.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}})
	}
	if a.healths != nil {
		all = append(all, served{a.healths, &http.Server{Handler: a.health.handler(a.metrics), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}})
	}
	failed := make(chan error, len(all))
	for _, s := range all {
		s.server.ErrorLog = slog.NewLogLogger(a.options.Logger.Handler(), slog.LevelDebug)
		go func() {
			serve := s.server.Serve
			if s.server.TLSConfig != nil {
				serve = func(l net.Listener) error { return s.server.ServeTLS(l, "", "") }
			}
			if err := serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("activator: serve on %s: %w", s.listener.Addr(), err)
			}
		}()
	}
	a.options.Logger.Info("activator: serving", "name", a.options.Name, "address", a.data.Addr().String())

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	a.health.stopping.Store(true)
	a.options.Logger.Info("activator: stopping", "in_progress", a.metrics.inProgress.Load())
	a.leave()
	a.finish(all[0].server)
	for _, s := range all {
		_ = s.server.Close()
	}
	a.stop()
	stop()
	supporters.Wait()
	a.tracer.close()
	return err
}

// leave tells gateways, by way of the control plane, to send nothing new. When they have heard of
// it and there are other activators, those get what waits here.
func (a *Activator) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), a.options.LeaveWait)
	defer cancel()
	if a.member.leave(ctx) {
		n := a.table.handBack()
		a.options.Logger.Info("activator: gateways use others", "handed_back", n)
	}
}

// finish waits until no request is in progress any more or the grace is over.
func (a *Activator) finish(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), a.options.ShutdownGrace)
	defer cancel()
	_ = s.Shutdown(ctx) // not for hijacked connections: websockets
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for a.metrics.inProgress.Load()+a.metrics.drains.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *Activator) dataServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	var secure *tls.Config
	if a.options.Trust != nil {
		protocols.SetHTTP2(true)
		secure = trust.Server(a.options.Trust, []string{"h2", "http/1.1"}, trust.Gateway)
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	return &http.Server{
		Handler:     a.forwarder,
		ConnContext: withConn,
		Protocols:   protocols,
		TLSConfig:   secure,
		// The gateway decides how long its connections live: one that is closed here in
		// the moment it sends a request loses that request.
		ReadHeaderTimeout: time.Minute,
		IdleTimeout:       2 * time.Hour,
		MaxHeaderBytes:    256 << 10, // more than a gateway lets through
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000,
			// What a held upload may send before it is read, and all of a connection's.
			MaxReceiveBufferPerStream:     128 << 10,
			MaxReceiveBufferPerConnection: 4 << 20,
		},
	}
}

func (a *Activator) close() {
	if a.stop != nil {
		a.stop()
	}
	for _, l := range []net.Listener{a.data, a.drains, a.healths} {
		if l != nil {
			_ = l.Close()
		}
	}
	if a.conn != nil {
		_ = a.conn.Close()
	}
	if a.forwarder != nil {
		a.forwarder.closeIdle()
	}
	if a.hangups != nil {
		a.hangups.close()
	}
}
