package dispatcher

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/http/httpguts"

	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// carrier reads a trace from an event's extensions (CloudEvents distributed tracing).
type carrier struct{ *event.Event }

func (c carrier) Get(name string) string { value, _ := c.Event.Get(name); return value }
func (c carrier) Set(string, string)     {}
func (c carrier) Keys() []string         { return nil }

func nothing(answer) {}

// trace adds the event's trace to the request's headers, with a span of the attempt's own where spans are made, and gives what ends it.
// The event's extension stays: it is where the event was made.
func (d *Dispatcher) trace(ctx context.Context, owner plan.Reference, ep *endpoint, e *event.Event, extra []header) ([]header, func(answer)) {
	if d.options.Tracer == nil {
		for _, h := range []header{{"Traceparent", "traceparent"}, {"Tracestate", "tracestate"}} {
			if value, there := e.Get(h.value); there && httpguts.ValidHeaderFieldValue(value) {
				extra = append(extra, header{h.name, value})
			}
		}
		return extra, nothing
	}
	ctx = propagation.TraceContext{}.Extract(ctx, carrier{e})
	ctx, span := d.options.Tracer.Start(ctx, "deliver", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("messaging.operation.type", "process"),
		attribute.String("cloudevents.event_id", e.ID),
		attribute.String("cloudevents.event_source", e.Source),
		attribute.String("cloudevents.event_type", e.Type),
		attribute.String("ebb.namespace", owner.Namespace),
		attribute.String("ebb.subscription", owner.Kind+"/"+owner.Name),
		attribute.String("server.address", ep.parsed.Host),
	))
	into := propagation.HeaderCarrier{}
	propagation.TraceContext{}.Inject(ctx, into)
	for name, values := range into {
		extra = append(extra, header{name, values[0]})
	}
	return extra, func(a answer) {
		if a.Status > 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", a.Status))
		}
		switch {
		case a.err != nil:
			span.SetStatus(codes.Error, a.err.Error())
		case !a.Accepted():
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}
