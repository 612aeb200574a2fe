package source

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/topic"
)

// Resolve finds the address of a source's sink and says in the status what came of it. The last good address
// stays. It returns the address that is in use ("": none yet), when to look again, and an error to try again after.
func Resolve(ctx context.Context, sinks *sink.Resolver, spec *duck.SourceSpec, status *duck.SourceStatus, namespace string, now time.Time) (sink.Address, time.Duration, error) {
	a, err := sinks.Resolve(ctx, &spec.Sink, namespace)
	var again time.Duration
	if a.Unwatched || sink.Unwatched(err) {
		again = topic.LookAgain
	}
	if err == nil {
		status.SinkURI, status.SinkCACerts, status.SinkAudience = a.URL, a.CACerts, a.Audience
		status.Conditions.SetTrue(duck.SinkProvided, now)
		return a, again, nil
	}
	text, unresolved := sink.Message(err)
	if !unresolved {
		return sink.Address{}, again, err
	}
	status.Conditions.SetFalse(duck.SinkProvided, eventingv1.ReasonNotResolved, sink.Sentence("Sink: "+text), now)
	return sink.Address{URL: status.SinkURI, CACerts: status.SinkCACerts, Audience: status.SinkAudience}, again, nil
}

// Watch wakes a controller of sources when the address of a sink changes: it indexes kind, whose list it makes, by its sinks.
func Watch(mgr ctrl.Manager, b *builder.Builder, index string, kind client.Object, list func() client.ObjectList, spec func(client.Object) *duck.SourceSpec, keys func(client.ObjectList) []client.ObjectKey) (*builder.Builder, error) {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), kind, index, func(o client.Object) []string {
		return sink.Keys(o.GetNamespace(), &spec(o).Sink)
	})
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", index, err)
	}
	c := mgr.GetClient()
	return sink.Watch(b, func(ctx context.Context, key string) []reconcile.Request {
		found := list()
		if err := c.List(ctx, found, client.MatchingFields{index: key}, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "sources that a change concerns could not be listed")
			return nil
		}
		var requests []reconcile.Request
		for _, key := range keys(found) {
			requests = append(requests, reconcile.Request{NamespacedName: key})
		}
		return requests
	}), nil
}

// Overrides is the value of K_CE_OVERRIDES.
func Overrides(o *duck.CloudEventOverrides) string {
	if o == nil {
		return ""
	}
	text, err := json.Marshal(o)
	if err != nil {
		return "" // strings can always be encoded
	}
	return string(text)
}
