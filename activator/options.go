package activator

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ebb.dev/ebb/trust"
)

// Options configure an activator. Zero values of durations and limits mean the
// default that their comment names.
type Options struct {
	Name string // node id for the control plane, unique among activators; a pod's name

	Listen       string // host:port for requests, HTTP/1.1 and HTTP/2 on one port
	Advertise    string // IP:PORT where gateways reach Listen; Listen itself when that has an IP
	DrainListen  string // host:port for preStop hooks, GET /drain/<namespace>/<revision>; "" turns it off
	DrainShared  bool   // other activators on this machine listen on DrainListen too: each takes some of the hooks
	HealthListen string // host:port for /healthz, /readyz and /metrics; "" turns it off

	ControlAddress string // host:port of the control plane's gRPC server; several, with commas between them, of which one leads
	// Trust is what this activator proves itself with to the control plane, and how it knows it and
	// gateways, which alone may then send requests. Nil: plain text, and everybody may.
	Trust trust.Source

	MaxHeld      int // requests held for one revision; 10,000
	MaxHeldTotal int // requests held in all; 25,000
	MaxHeldBytes int // what the headers of held requests take in all; 256 MiB. A body is not read while its request is held
	MaxRevisions int // revisions known at once; 50,000
	MaxHooks     int // connections to DrainListen at once, which is open to everybody; more wait to be taken; 8,192
	MaxUnknown   int // revisions asked for that the control plane has not described; 4,096

	HoldTimeout   time.Duration // hold for revisions that name no timeout; 5 min
	IdleAfter     time.Duration // a revision without pods is forgotten so long after its last request; 10 min
	DialTimeout   time.Duration // to connect to a pod; 1 s
	DrainWait     time.Duration // a preStop hook waits so long when no leader answers; 5 s
	LeaveWait     time.Duration // when Run's context ends, gateways get so long to hear of it; 5 s
	ShutdownGrace time.Duration // requests in progress get so long after that; 30 s

	Logger *slog.Logger // slog.Default
}

// complete returns the options with defaults filled in, or what is missing.
func (o Options) complete() (Options, error) {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"Name", o.Name}, {"Listen", o.Listen}, {"ControlAddress", o.ControlAddress},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("activator options: %s must be set", f.name))
		}
	}
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{
		{"MaxHeld", &o.MaxHeld, 10_000},
		{"MaxHeldTotal", &o.MaxHeldTotal, 25_000},
		{"MaxHeldBytes", &o.MaxHeldBytes, 256 << 20},
		{"MaxRevisions", &o.MaxRevisions, 50_000},
		{"MaxHooks", &o.MaxHooks, 8192},
		{"MaxUnknown", &o.MaxUnknown, 4096},
	} {
		if *n.value < 0 {
			errs = append(errs, fmt.Errorf("activator options: %s is %d, must be positive", n.name, *n.value))
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"HoldTimeout", &o.HoldTimeout, 5 * time.Minute},
		{"IdleAfter", &o.IdleAfter, 10 * time.Minute},
		{"DialTimeout", &o.DialTimeout, time.Second},
		{"DrainWait", &o.DrainWait, 5 * time.Second},
		{"LeaveWait", &o.LeaveWait, 5 * time.Second},
		{"ShutdownGrace", &o.ShutdownGrace, 30 * time.Second},
	} {
		if *d.value < 0 {
			errs = append(errs, fmt.Errorf("activator options: %s is %v, must be positive", d.name, *d.value))
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(errs...)
}
