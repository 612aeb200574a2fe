package controllers_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	eventingv1beta2 "ebb.dev/ebb/apis/eventing/v1beta2"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/controllers/apiserversource"
	"ebb.dev/ebb/controllers/broker"
	"ebb.dev/ebb/controllers/channel"
	"ebb.dev/ebb/controllers/containersource"
	"ebb.dev/ebb/controllers/eventtype"
	"ebb.dev/ebb/controllers/feed"
	"ebb.dev/ebb/controllers/parallel"
	"ebb.dev/ebb/controllers/pingsource"
	"ebb.dev/ebb/controllers/sequence"
	settingscontroller "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/sinkbinding"
	"ebb.dev/ebb/controllers/subscription"
	"ebb.dev/ebb/controllers/topic"
	"ebb.dev/ebb/controllers/trigger"
	"ebb.dev/ebb/eventing/engine"
	cloudevent "ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/eventing/sources"
	"ebb.dev/ebb/eventing/translate"
	"ebb.dev/ebb/test/kubetest"
)

// eventingPlatform is the controllers of eventing on a real API server, with a store that only keeps the books.
type eventingPlatform struct {
	*platform
	books *books
	told  *plans

	recorder *eventtype.Recorder
}

// startEventing starts it; store nil: the books.
func startEventing(t *testing.T, store engine.Engine) *eventingPlatform {
	t.Helper()
	api := kubetest.Start(t)
	log.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1.AddToScheme, v1beta1.AddToScheme, eventingv1.AddToScheme, eventingv1beta2.AddToScheme,
		messagingv1.AddToScheme, flowsv1.AddToScheme, sourcesv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	mgr, err := ctrl.NewManager(api, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		// Other tests of the process have controllers of these names.
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &eventingPlatform{
		platform: &platform{store: settings.NewStore()}, books: &books{topics: map[string]engine.Topic{}, places: map[string]engine.Subscription{}},
		told: &plans{topics: map[plan.Address]plan.Topic{}, places: map[string]plan.Subscription{}},
	}
	if store == nil {
		store = p.books
	}
	keeper := &topic.Keeper{
		Client: mgr.GetClient(), Engine: store, Settings: p.store, Ingress: "http://broker-ingress.ebb-system.svc.cluster.local", Now: time.Now,
		Sinks: &sink.Resolver{Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Mapper: mgr.GetRESTMapper()},
	}
	sender := &sources.Sender{Engine: store, Client: http.DefaultClient, Delivery: func() plan.Delivery { return translate.Delivery(p.store.Load()) },
		Seen: func(a plan.Address, e *cloudevent.Event) { p.recorder.Seen(a, e.Type, e.Source, e.DataSchema) }}
	for _, err := range []error{
		settingscontroller.Add(mgr, settingscontroller.Options{Store: p.store}),
		broker.Add(mgr, keeper),
		channel.Add(mgr, keeper),
		trigger.Add(mgr, trigger.Options{Keeper: keeper}),
		subscription.Add(mgr, keeper),
		sequence.Add(mgr),
		parallel.Add(mgr),
		eventtype.Add(mgr, keeper.Sinks),
		pingsource.Add(mgr, pingsource.Options{Sinks: keeper.Sinks, Logger: slog.New(slog.DiscardHandler), Sender: sender}),
		apiserversource.Add(mgr, apiserversource.Options{Sinks: keeper.Sinks, Logger: slog.New(slog.DiscardHandler), Sender: sender}),
		containersource.Add(mgr, keeper.Sinks),
		sinkbinding.Add(mgr, sinkbinding.Options{Sinks: keeper.Sinks, LookAgain: 100 * time.Millisecond}),
		feed.Add(mgr, feed.Options{Settings: p.store, Topics: topicsTold{p.told}, Subscriptions: placesTold{p.told}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if p.recorder, err = eventtype.NewRecorder(mgr, p.store); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	watcher, err := client.NewWithWatch(api, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	p.Client, p.watcher = watcher, watcher
	p.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ebb-system"}})
	return p
}

// books is an engine without events: what there is in it, and what it refuses.
type books struct {
	engine.Engine // what is not said below is not asked for

	mu     sync.Mutex
	topics map[string]engine.Topic
	places map[string]engine.Subscription // by topic/name
	fail   error

	published published
	// made is how often each place was made that was not there.
	made map[string]int
}

func (b *books) PutTopic(_ context.Context, t engine.Topic) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.topics[t.Name] = t
	return nil
}

func (b *books) DeleteTopic(_ context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	delete(b.topics, name)
	for key, place := range b.places {
		if place.Topic == name {
			delete(b.places, key)
		}
	}
	return nil
}

func (b *books) PutSubscription(_ context.Context, s engine.Subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	if _, ok := b.topics[s.Topic]; !ok {
		return fmt.Errorf("subscription %s: %w", s.Name, engine.ErrNoTopic)
	}
	key := s.Topic + "/" + s.Name
	if _, ok := b.places[key]; !ok {
		if b.made == nil {
			b.made = map[string]int{}
		}
		b.made[key]++
	}
	b.places[key] = s
	return nil
}

func (b *books) DeleteSubscription(_ context.Context, topic, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	delete(b.places, topic+"/"+name)
	return nil
}

func (b *books) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// of lists the topics and places of a namespace, sorted.
func (b *books) of(namespace string) (topics []engine.Topic, places []engine.Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.topics)) {
		if a, _, _ := plan.OwnerOf(name); a.Namespace == namespace {
			topics = append(topics, b.topics[name])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b.places)) {
		if a, _, _ := plan.OwnerOf(b.places[key].Topic); a.Namespace == namespace {
			places = append(places, b.places[key])
		}
	}
	return topics, places
}

// plans is what an ingress and a dispatcher were told last.
type plans struct {
	mu     sync.Mutex
	topics map[plan.Address]plan.Topic
	places map[string]plan.Subscription
}

type topicsTold struct{ *plans }

func (p topicsTold) Set(t plan.Topic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.topics[t.Address] = t
}

func (p topicsTold) Remove(a plan.Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.topics, a)
}

type placesTold struct{ *plans }

func (p placesTold) Set(s plan.Subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places[s.Name] = s
}

func (p placesTold) Remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.places, name)
}

func (p *plans) topic(a plan.Address) (plan.Topic, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.topics[a]
	return t, ok
}

func (p *plans) place(uid string) (plan.Subscription, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.places[uid]
	return s, ok
}
