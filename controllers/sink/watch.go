package sink

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// Key is what an object that is referred to is indexed by.
func Key(kind schema.GroupKind, namespace, name string) string {
	return kind.Group + "/" + kind.Kind + "/" + namespace + "/" + name
}

// Keys are those of the objects that destinations of an object in namespace refer to.
func Keys(namespace string, destinations ...*duck.Destination) []string {
	var keys []string
	for _, d := range destinations {
		if d == nil || d.Ref == nil {
			continue
		}
		at := namespace
		if d.Ref.Namespace != "" {
			at = d.Ref.Namespace
		}
		keys = append(keys, Key(d.Ref.GroupKind(), at, d.Ref.Name))
	}
	return keys
}

// Watch wakes a controller when an address of a known kind may be another. requests returns whose
// destinations a key is.
func Watch(b *builder.Builder, requests func(ctx context.Context, key string) []reconcile.Request) *builder.Builder {
	to := func(kind schema.GroupKind) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return requests(ctx, Key(kind, o.GetNamespace(), o.GetName()))
		})
	}
	for _, kind := range []schema.GroupKind{
		v1.GroupVersion.WithKind(v1.KindService).GroupKind(), v1.GroupVersion.WithKind(v1.KindRoute).GroupKind(),
		eventingv1.GroupVersion.WithKind(eventingv1.KindBroker).GroupKind(), messagingv1.GroupVersion.WithKind(messagingv1.KindChannel).GroupKind(),
		flowsv1.GroupVersion.WithKind(flowsv1.KindSequence).GroupKind(), flowsv1.GroupVersion.WithKind(flowsv1.KindParallel).GroupKind(),
	} {
		o, _ := newObject(kind)
		b = b.Watches(o, to(kind), builder.WithPredicates(moved()))
	}
	return b.WatchesMetadata(coreService(), to(schema.GroupKind{Kind: "Service"}), builder.WithPredicates(predicate.Funcs{
		UpdateFunc: func(event.UpdateEvent) bool { return false }, // its address is its name
	}))
}

// moved leaves out changes of an object that leave its addresses alone.
func moved() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, topicWas := AddressesOf(e.ObjectOld)
		is, topicIs := AddressesOf(e.ObjectNew)
		return topicWas != topicIs || !equality.Semantic.DeepEqual(was, is)
	}}
}
