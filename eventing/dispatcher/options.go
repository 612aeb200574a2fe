package dispatcher

import (
	"context"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/otel/trace"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// Options are what a Dispatcher works with. Only Engine has to be given.
type Options struct {
	Engine engine.Engine
	Logger *slog.Logger

	// AckWait is that of the engine's subscriptions (engine.Subscription.AckWait). 30 s when not given.
	AckWait time.Duration
	// MaxBytes bounds the events in memory, of all lanes together, with 32 KiB for each delivery in flight. Beyond it
	// each lane has one event at a time. 256 MiB when not given.
	MaxBytes int64
	// MaxReplyBytes bounds a reply: 1 MiB and 64 KiB for attributes when not given.
	MaxReplyBytes int

	// ClusterLocal is the address of the gateway's in-cluster listener: where it is given, hosts of http URLs that end in
	// .svc.CLUSTERDOMAIN are dialled there. "": by DNS.
	ClusterLocal  string
	ClusterDomain string // cluster.local when not given
	// Hosts are dialled at these addresses, before ClusterLocal is looked at: HOST or HOST:PORT to HOST:PORT.
	Hosts map[string]string
	// Dial is how connections are made; net.Dialer's when not given.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Token is a token for an audience that a subscription's target asks for; nil: none is sent.
	Token func(ctx context.Context, owner plan.Reference, audience string) (string, error)

	// Tracer makes a span for each attempt; nil: the event's trace is passed on as it is.
	Tracer trace.Tracer

	// Replied hears of each reply that was stored in a topic: it did not come by the ingress, which hears of the others. It must not block.
	Replied func(topic string, reply *event.Event)

	// Reporter hears of the backlog of each subscription when it changes, at most every ReportEvery (500 ms when not given).
	Reporter    Reporter
	ReportEvery time.Duration
}

func (o Options) complete() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.AckWait <= 0 {
		o.AckWait = 30 * time.Second
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 20
	}
	if o.MaxReplyBytes <= 0 {
		o.MaxReplyBytes = 1<<20 + 64<<10
	}
	if o.ClusterDomain == "" {
		o.ClusterDomain = "cluster.local"
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if o.ReportEvery <= 0 {
		o.ReportEvery = 500 * time.Millisecond
	}
	return o
}
