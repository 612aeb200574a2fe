package activator

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"ebb.dev/ebb/proxy/link"
)

const (
	flushTimeout   = 5 * time.Second // of spans, when the collector changes and at the end
	traceparent    = "Traceparent"   // as net/http spells it
	spansWaiting   = 4096            // in memory; more are dropped
	serviceOfSpans = "ebb-activator"
)

// tracer makes spans for requests whose gateway traces them, and sends them to where the
// control plane says. Without a collector it costs a request one load of a pointer.
type tracer struct {
	logger *slog.Logger
	now    atomic.Pointer[spans]

	mu       sync.Mutex // of use
	retiring sync.WaitGroup
}

// spans go to one collector.
type spans struct {
	url      string
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// use sends spans to a collector from now on; "" is nowhere. It does not block on the collector.
func (t *tracer) use(collector string) {
	if t == nil {
		return
	}
	if old := t.now.Load(); old == nil && collector == "" || old != nil && old.url == collector {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.now.Load()
	if old == nil && collector == "" || old != nil && old.url == collector {
		return
	}
	var next *spans
	if collector != "" {
		provider, err := newProvider(collector)
		if err != nil {
			t.logger.Error("traces: no spans are sent", "collector", collector, "error", err)
			provider = nil
		}
		if provider != nil {
			next = &spans{collector, provider, provider.Tracer("ebb.dev/ebb/activator")}
			t.logger.Info("traces: spans are sent", "collector", collector)
		}
	}
	t.now.Store(next)
	if old != nil {
		t.retiring.Go(old.flush)
	}
}

func (s *spans) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = s.provider.Shutdown(ctx) // what cannot be sent is lost
}

// close sends what there is.
func (t *tracer) close() {
	t.use("")
	t.retiring.Wait()
}

func newProvider(collector string) (*sdktrace.TracerProvider, error) {
	u, err := url.Parse(collector)
	if err != nil {
		return nil, err
	}
	var client otlptrace.Client
	if u.Scheme == "grpc" {
		client = otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithInsecure())
	} else {
		client = otlptracehttp.NewClient(otlptracehttp.WithEndpoint(u.Host), otlptracehttp.WithURLPath(u.Path), otlptracehttp.WithInsecure())
	}
	exporter, err := otlptrace.New(context.Background(), client)
	if err != nil {
		return nil, err
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(spansWaiting), sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", serviceOfSpans))),
	), nil
}

// traced is one request that is traced.
type traced struct {
	tracer  trace.Tracer
	arrived time.Time
	span    trace.Span
	forward trace.Span // to the pod; nil where it got none
}

// begin continues the trace that the gateway began, once it is known what becomes of the request: it
// has a pod, or err. nil when there is no trace, or it is not sampled. What is sent to the pod
// continues the trace.
func (t *tracer) begin(req *http.Request, r *revision, ticket *ticket, err error) *traced {
	s := t.now.Load()
	if s == nil || len(req.Header[traceparent]) == 0 {
		return nil
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(req.Header))
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	now := time.Now()
	x := &traced{tracer: s.tracer, arrived: now}
	if ticket.seq > 0 {
		x.arrived = now.Add(ticket.arrived - r.env.now())
	}
	namespace, name, start := r.startOf(ticket)
	ctx, x.span = s.tracer.Start(ctx, "activator", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(x.arrived),
		trace.WithAttributes(attribute.String("ebb.namespace", namespace), attribute.String("ebb.revision", name)))
	if ticket.ready != nil { // it waited
		ctx, queued := s.tracer.Start(ctx, "queued", trace.WithTimestamp(x.arrived))
		if err == nil {
			x.steps(ctx, start, now)
		}
		queued.End(trace.WithTimestamp(now))
	}
	if err != nil {
		x.span.SetStatus(codes.Error, err.Error())
		return x
	}
	ctx, x.forward = s.tracer.Start(ctx, "forwarded", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now))
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	return x
}

// steps makes a span of each step of the pod's start that the request waited for. They follow each
// other: the times are of several machines, and without the node's own in whole seconds.
func (x *traced) steps(ctx context.Context, start *link.StartTimes, until time.Time) {
	if start == nil || !start.GetCreated().IsValid() {
		return
	}
	slack := time.Duration(0)
	if start.GetCoarse() {
		slack = time.Second
	}
	if start.GetCreated().AsTime().Before(x.arrived.Add(-slack)) {
		return // it was on its way before
	}
	last := x.arrived
	step := func(name string, at time.Time) {
		if at.Before(last) {
			at = last
		}
		if at.After(until) {
			at = until
		}
		_, s := x.tracer.Start(ctx, name, trace.WithTimestamp(last), trace.WithAttributes(attribute.Bool("ebb.coarse", start.GetCoarse())))
		s.End(trace.WithTimestamp(at))
		last = at
	}
	step("scaled", start.GetCreated().AsTime())
	if at := start.GetScheduled(); at.IsValid() {
		step("scheduled", at.AsTime())
	}
	if at := start.GetPulled(); at.IsValid() {
		step("pulled", at.AsTime())
	}
	if at := start.GetStarted(); at.IsValid() {
		step("started", at.AsTime())
	}
	step("probed", until)
}

// end ends the request's spans; status is the pod's, 0 when it gave none.
func (x *traced) end(status int) {
	for _, s := range []trace.Span{x.forward, x.span} {
		if s == nil {
			continue
		}
		switch {
		case status == 0 && x.forward != nil:
			s.SetStatus(codes.Error, "no answer")
		case status >= http.StatusInternalServerError:
			s.SetStatus(codes.Error, "")
		}
		if status > 0 {
			s.SetAttributes(attribute.Int("http.response.status_code", status))
		}
		s.End()
	}
}

// startOf is what is known of the start of the pod that the ticket has.
func (r *revision) startOf(t *ticket) (namespace, name string, start *link.StartTimes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.pod != nil {
		start = t.pod.start
	}
	return r.spec.GetNamespace(), r.spec.GetName(), start
}
