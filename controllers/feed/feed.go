package feed

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/eventing"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/apis/settings"
	watch "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/eventing/translate"
)

// Topics is told what events are taken for. Its methods may be called from several goroutines and do not block.
type Topics interface {
	Set(t plan.Topic)
	Remove(a plan.Address)
}

// Subscriptions is told what is delivered where. Its methods may be called from several goroutines and do not block.
type Subscriptions interface {
	Set(s plan.Subscription)
	Remove(name string)
}

// Options of Add; all are required.
type Options struct {
	Settings      *settings.Store
	Topics        Topics
	Subscriptions Subscriptions
}

// Add puts the feeders into mgr. It does not block.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Settings == nil || opts.Topics == nil || opts.Subscriptions == nil {
		return fmt.Errorf("add the feeders: all of Options are required")
	}
	f := &feeder{
		Reader: mgr.GetClient(), settings: opts.Settings,
		topics: told[plan.Address, plan.Topic]{set: opts.Topics.Set, remove: opts.Topics.Remove},
		places: told[place, plan.Subscription]{set: opts.Subscriptions.Set, remove: func(p place) { opts.Subscriptions.Remove(p.name) }},
	}
	for _, one := range []struct {
		name      string
		kind      client.Object
		list      func() client.ObjectList
		parent    client.Object
		reconcile func(context.Context, client.ObjectKey) error
		parentOf  func(client.Object) string
	}{
		{name: "feed-broker", kind: &eventingv1.Broker{}, list: func() client.ObjectList { return &eventingv1.BrokerList{} }, reconcile: f.broker},
		{name: "feed-channel", kind: &messagingv1.Channel{}, list: func() client.ObjectList { return &messagingv1.ChannelList{} }, reconcile: f.channel},
		{
			name: "feed-trigger", kind: &eventingv1.Trigger{}, list: func() client.ObjectList { return &eventingv1.TriggerList{} }, reconcile: f.trigger,
			parent: &eventingv1.Broker{}, parentOf: func(o client.Object) string { return o.(*eventingv1.Trigger).Spec.Broker },
		},
		{
			name: "feed-subscription", kind: &messagingv1.Subscription{}, list: func() client.ObjectList { return &messagingv1.SubscriptionList{} }, reconcile: f.subscription,
			parent: &messagingv1.Channel{}, parentOf: func(o client.Object) string { return o.(*messagingv1.Subscription).Spec.Channel.Name },
		},
	} {
		requests := func(ctx context.Context, opts ...client.ListOption) ([]reconcile.Request, error) {
			list := one.list()
			if err := f.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
				return nil, err
			}
			return keys(list), nil
		}
		b := ctrl.NewControllerManagedBy(mgr).Named(one.name).For(one.kind).
			WatchesRawSource(watch.Source(opts.Settings, func(ctx context.Context) ([]reconcile.Request, error) { return requests(ctx) })).
			WithOptions(controller.Options{MaxConcurrentReconciles: 2, NeedLeaderElection: new(false)})
		if one.parent != nil {
			index := "ebb." + one.name + ".parent"
			err := mgr.GetFieldIndexer().IndexField(context.Background(), one.kind, index, func(o client.Object) []string { return []string{one.parentOf(o)} })
			if err != nil {
				return fmt.Errorf("index %s: %w", index, err)
			}
			b = b.Watches(one.parent, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
				of, err := requests(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{index: o.GetName()})
				if err != nil {
					ctrl.LoggerFrom(ctx).Error(err, "what a change concerns could not be listed")
				}
				return of
			}))
		}
		err := b.Complete(reconcile.Func(func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{}, one.reconcile(ctx, r.NamespacedName)
		}))
		if err != nil {
			return fmt.Errorf("add %s: %w", one.name, err)
		}
	}
	return nil
}

func keys(list client.ObjectList) []reconcile.Request {
	var requests []reconcile.Request
	switch list := list.(type) {
	case *eventingv1.BrokerList:
		requests = each(list.Items, func(o *eventingv1.Broker) client.Object { return o })
	case *eventingv1.TriggerList:
		requests = each(list.Items, func(o *eventingv1.Trigger) client.Object { return o })
	case *messagingv1.ChannelList:
		requests = each(list.Items, func(o *messagingv1.Channel) client.Object { return o })
	case *messagingv1.SubscriptionList:
		requests = each(list.Items, func(o *messagingv1.Subscription) client.Object { return o })
	}
	return requests
}

func each[T any](items []T, object func(*T) client.Object) []reconcile.Request {
	requests := make([]reconcile.Request, 0, len(items))
	for i := range items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(object(&items[i]))})
	}
	return requests
}

type feeder struct {
	client.Reader
	settings *settings.Store
	topics   told[plan.Address, plan.Topic]
	places   told[place, plan.Subscription]
}

// place is a subscription's name with its topic: a Trigger whose Broker was made anew has another place.
type place struct{ topic, name string }

// get reads an object from the cache; nil where it is not there.
func get[T client.Object](ctx context.Context, f *feeder, key client.ObjectKey, into T) (T, error) {
	err := f.Get(ctx, key, into)
	if apierrors.IsNotFound(err) {
		var none T
		return none, nil
	}
	return into, err
}

func (f *feeder) broker(ctx context.Context, key client.ObjectKey) error {
	b, err := get(ctx, f, key, &eventingv1.Broker{})
	if err != nil {
		return err
	}
	a := plan.Address{Kind: plan.Broker, Namespace: key.Namespace, Name: key.Name}
	if b == nil || b.DeletionTimestamp != nil || !eventing.Ours(b.Annotations) {
		f.topics.tell(a, a, plan.Topic{}, false)
	} else {
		f.topics.tell(a, a, translate.Broker(b, f.settings.Load()), true)
	}
	return nil
}

func (f *feeder) channel(ctx context.Context, key client.ObjectKey) error {
	c, err := get(ctx, f, key, &messagingv1.Channel{})
	if err != nil {
		return err
	}
	a := plan.Address{Kind: plan.Channel, Namespace: key.Namespace, Name: key.Name}
	if c == nil || c.DeletionTimestamp != nil {
		f.topics.tell(a, a, plan.Topic{}, false)
	} else {
		f.topics.tell(a, a, translate.Channel(c, f.settings.Load()), true)
	}
	return nil
}

func (f *feeder) trigger(ctx context.Context, key client.ObjectKey) error {
	t, err := get(ctx, f, key, &eventingv1.Trigger{})
	if err != nil {
		return err
	}
	var s plan.Subscription
	ok := false
	if t != nil {
		b, err := get(ctx, f, client.ObjectKey{Namespace: key.Namespace, Name: t.Spec.Broker}, &eventingv1.Broker{})
		if err != nil {
			return err
		}
		if b != nil && eventing.Ours(b.Annotations) {
			s, ok = translate.Trigger(t, b, f.settings.Load())
		}
	}
	f.places.tell("trigger/"+key.String(), place{s.Topic, s.Name}, s, ok)
	return nil
}

func (f *feeder) subscription(ctx context.Context, key client.ObjectKey) error {
	o, err := get(ctx, f, key, &messagingv1.Subscription{})
	if err != nil {
		return err
	}
	var s plan.Subscription
	ok := false
	if o != nil {
		c, err := get(ctx, f, client.ObjectKey{Namespace: key.Namespace, Name: o.Spec.Channel.Name}, &messagingv1.Channel{})
		if err != nil {
			return err
		}
		s, ok = translate.Subscription(o, c, f.settings.Load())
	}
	f.places.tell("subscription/"+key.String(), place{s.Topic, s.Name}, s, ok)
	return nil
}

// told remembers what was handed over for an object, so that what is equal is not handed over
// again, and what went is taken back: an object that was made anew under its name has another UID.
type told[N comparable, V any] struct {
	set    func(V)
	remove func(N)

	mu   sync.Mutex
	have map[any]entry[N, V]
}

type entry[N comparable, V any] struct {
	name  N
	value V
}

// tell hands over the value of an object, or with ok false takes back what was. One object is told of by one goroutine at a time.
func (t *told[N, V]) tell(object any, name N, value V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, there := t.have[object]
	if there && (!ok || was.name != name) {
		t.remove(was.name)
		delete(t.have, object)
		there = false
	}
	if !ok || there && reflect.DeepEqual(was.value, value) {
		return
	}
	if t.have == nil {
		t.have = map[any]entry[N, V]{}
	}
	t.have[object] = entry[N, V]{name, value}
	t.set(value)
}
