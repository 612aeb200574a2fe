package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/shares"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
)

// Activators is what a Publisher says to activators, by the id of one: members.Registry.
// None of the calls blocks, but for Settled.
type Activators interface {
	Start(context.Context) error
	// Settled returns when it is known who the activators are, and what they have.
	Settled(context.Context) error
	Release(id string, releases ...*link.Release)
	Left(id string, others int)
}

// Options are what a [Publisher] works with. All but Activators, Live, Trust, Track, Moved, IdleAfter, Grace and Logger are required.
type Options struct {
	Cache      cache.Cache   // Routes, Revisions and pods are read from it; it need not be started yet
	Live       client.Reader // the API server itself; required where a listener has TLS, to read the Secrets in use
	Settings   *settings.Store
	XDS        xds.Options   // OnState and OnSubscribe are set by the Publisher
	Listeners  []ir.Listener // what every gateway listens on
	Activators Activators    // those that share pods; nil where none can be spoken to
	Trust      *ir.Trust     // between gateways and activators; nil is plain text

	// Track is told which clusters have pods that gateways send to, so that only
	// those are reported on.
	Track func(cluster string, on bool)

	// Moved is told of hosts for which [Publisher.Backends] may say something else now. It is called with the lock held, so it must not
	// block or call the Publisher.
	Moved func(hosts []string)

	// IdleAfter is how long a Route's configuration stays in the gateways after its
	// last request; 0 means for ever.
	IdleAfter time.Duration
	// Grace is how long after a start, or after a gateway came or went, a Route that was
	// Ready and has not changed is still called so; 10 s when 0.
	Grace  time.Duration
	Logger *slog.Logger
}

type kind uint8

const (
	routeKey kind = iota
	revisionKey
	mappingKey
	secretKey
	markKey
)

type key struct {
	kind kind
	name types.NamespacedName
	mark *mark
}

// mark is a place in the queue: everything before it has been translated once done is closed.
type mark struct{ done chan struct{} }

// Publisher keeps the discovery server's resources equal to the objects. Make one
// with [New], run it with Warm and, in the replica that leads, Start; its methods may be called from any goroutine.
type Publisher struct {
	opts   Options
	server *xds.Server
	queue  workqueue.TypedInterface[key]
	events *events // of Routes
	// mappingEvents are those of DomainMappings.
	mappingEvents *events

	mu         sync.Mutex // held while one key is translated; never across I/O
	routes     map[types.NamespacedName]*routeEntry
	revisions  map[types.NamespacedName]*revisionEntry
	draining   map[types.NamespacedName]map[string]bool // pods by name
	byRevision map[types.NamespacedName]map[types.NamespacedName]bool
	byCluster  map[string]types.NamespacedName
	byRoute    map[string]ir.Owner // by the route configuration's name
	hosts      hosts
	served     map[ir.Owner]*served // all Routes and DomainMappings
	mappings   map[types.NamespacedName]*mappingEntry
	byTarget   map[types.NamespacedName]map[types.NamespacedName]bool // DomainMappings by the Route they lead to
	secrets    map[types.NamespacedName]*secretEntry                  // those in use

	admitting   sync.Mutex // held, without mu, while gateways are told of new activators
	slots       int
	members     []members.Member  // to be used
	activators  []ir.Endpoint     // those of them that gateways know the way to
	ids         map[string]string // the processes of members, by name
	byActivator map[string]map[types.NamespacedName]bool

	sharing     bool   // it is known who has which pod
	floor       uint64 // of the turns of pods that nobody is known to have
	ledgers     map[string]*shares.Ledger
	mentions    map[string]map[string]struct{}  // clusters by activator
	mentionedBy map[string]map[string]struct{}  // activators by cluster
	waiting     map[string]map[string]time.Time // by cluster, then by activator

	unsettled time.Time // when a gateway came or went last; zero once the time of grace is over
	opened    bool      // the world was complete once

	queued chan struct{} // closed when everything that existed has been queued
}

// New makes a Publisher and its discovery server.
func New(opts Options) (*Publisher, error) {
	if opts.Live == nil && slices.ContainsFunc(opts.Listeners, func(l ir.Listener) bool { return l.TLS }) {
		return nil, errors.New("publish: a listener has TLS, and Options.Live, which reads certificates, is not given")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Track == nil {
		opts.Track = func(string, bool) {}
	}
	if opts.Moved == nil {
		opts.Moved = func([]string) {}
	}
	if opts.Grace == 0 {
		opts.Grace = 10 * time.Second
	}
	p := &Publisher{
		opts:          opts,
		queue:         workqueue.NewTyped[key](),
		events:        newEvents(func(m metav1.ObjectMeta) client.Object { return &v1.Route{ObjectMeta: m} }),
		mappingEvents: newEvents(func(m metav1.ObjectMeta) client.Object { return &v1beta1.DomainMapping{ObjectMeta: m} }),
		routes:        map[types.NamespacedName]*routeEntry{},
		revisions:     map[types.NamespacedName]*revisionEntry{},
		draining:      map[types.NamespacedName]map[string]bool{},
		byRevision:    map[types.NamespacedName]map[types.NamespacedName]bool{},
		byCluster:     map[string]types.NamespacedName{},
		byRoute:       map[string]ir.Owner{},
		served:        map[ir.Owner]*served{},
		mappings:      map[types.NamespacedName]*mappingEntry{},
		byTarget:      map[types.NamespacedName]map[types.NamespacedName]bool{},
		secrets:       map[types.NamespacedName]*secretEntry{},
		hosts:         hosts{},
		sharing:       opts.Activators == nil,
		byActivator:   map[string]map[types.NamespacedName]bool{},
		floor:         uint64(time.Now().UnixNano()),
		ledgers:       map[string]*shares.Ledger{},
		mentions:      map[string]map[string]struct{}{},
		mentionedBy:   map[string]map[string]struct{}{},
		waiting:       map[string]map[string]time.Time{},
		unsettled:     time.Now(),
		queued:        make(chan struct{}),
	}
	opts.XDS.OnState = p.onState
	opts.XDS.OnSubscribe = p.onSubscribe
	p.server = xds.New(opts.XDS)
	return p, nil
}

// Server is the discovery server that the Publisher fills. It answers no stream
// before the first whole world is in.
func (p *Publisher) Server() *xds.Server { return p.server }

// Changes delivers a Route whenever what [Publisher.RouteState] says of it may have changed.
func (p *Publisher) Changes() <-chan event.GenericEvent { return p.events.out }

// MappingChanges is Changes for DomainMappings and [Publisher.MappingState].
func (p *Publisher) MappingChanges() <-chan event.GenericEvent { return p.mappingEvents.out }

// NeedLeaderElection is true: the leader serves the configuration.
func (p *Publisher) NeedLeaderElection() bool { return true }

const podsByRevision = "publish.revision"

// Index prepares the cache; call it before the cache is started.
func (p *Publisher) Index(ctx context.Context) error {
	return p.opts.Cache.IndexField(ctx, &corev1.Pod{}, podsByRevision, func(o client.Object) []string {
		if name := o.GetLabels()[serving.RevisionLabel]; name != "" {
			return []string{name}
		}
		return nil
	})
}

// Warm translates the world, and then every change, until ctx ends. It blocks. Every replica runs it, so
// that the next leader has it all at hand; gateways are answered by what Start opens.
func (p *Publisher) Warm(ctx context.Context) error {
	defer p.queue.ShutDown()
	go p.events.run(ctx)
	go p.mappingEvents.run(ctx)

	changed := p.opts.Settings.Subscribe() // before they are read, so that no change is missed
	if err := p.publishListeners(); err != nil {
		return err
	}
	handles := map[client.Object]toolscache.ResourceEventHandler{
		&v1.Route{}:              handler(func(o client.Object) { p.queue.Add(key{kind: routeKey, name: client.ObjectKeyFromObject(o)}) }),
		&v1.Revision{}:           handler(func(o client.Object) { p.queue.Add(key{kind: revisionKey, name: client.ObjectKeyFromObject(o)}) }),
		&corev1.Pod{}:            handler(p.podChanged),
		&v1.Service{}:            p.scalingChanged(serving.ServiceLabel),
		&v1.Configuration{}:      p.scalingChanged(serving.ConfigurationLabel),
		&v1beta1.DomainMapping{}: handler(func(o client.Object) { p.queue.Add(key{kind: mappingKey, name: client.ObjectKeyFromObject(o)}) }),
	}
	if p.TLS() {
		handles[secretMetadata()] = handler(p.secretChanged)
	}
	for object, handle := range handles {
		informer, err := p.opts.Cache.GetInformer(ctx, object)
		if err != nil {
			return fmt.Errorf("watch %T: %w", object, err)
		}
		registration, err := informer.AddEventHandler(handle)
		if err != nil {
			return fmt.Errorf("watch %T: %w", object, err)
		}
		defer informer.RemoveEventHandler(registration) //nolint:errcheck // the process is ending
		if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
			return nil // ctx has ended
		}
	}
	close(p.queued)
	go p.follow(ctx, changed)
	go func() { <-ctx.Done(); p.queue.ShutDown() }()
	for p.next() {
	}
	return nil
}

// Start makes the translated world what gateways are answered with, once it is known what activators
// have, and returns when ctx ends. Warm runs beside it.
func (p *Publisher) Start(ctx context.Context) error {
	select {
	case <-p.queued:
	case <-ctx.Done():
		return nil
	}
	p.mu.Lock()
	p.floor = max(p.floor, uint64(time.Now().UnixNano())) // above those of an earlier leader, whose pods are found with theirs
	p.unsettled = time.Now()
	p.mu.Unlock()
	if p.opts.Activators != nil {
		if err := p.opts.Activators.Start(ctx); err != nil {
			return err
		}
		// Which activator has which pod is known before any is given to another one.
		if err := p.opts.Activators.Settled(ctx); err != nil {
			return nil //nolint:nilerr // ctx has ended
		}
		p.mu.Lock()
		p.sharing = true
		p.mu.Unlock()
		p.requeueRevisions()
	}
	// Everything that exists has been queued: translate it all before the first
	// gateway is answered, or a gateway that reconnects would be told to forget what
	// was not translated yet.
	if !p.drained(ctx) {
		return nil
	}
	p.mu.Lock()
	p.opened = true
	for cluster := range p.ledgers {
		if _, exists := p.byCluster[cluster]; !exists {
			p.forgetShares(cluster)
		}
	}
	for cluster := range p.waiting {
		if _, exists := p.byCluster[cluster]; !exists {
			delete(p.waiting, cluster)
		}
	}
	routes, mappings, revisions := len(p.routes), len(p.mappings), len(p.revisions)
	p.mu.Unlock()
	p.server.Open()
	p.opts.Logger.Info("configuration is complete", "routes", routes, "mappings", mappings, "revisions", revisions)
	<-ctx.Done()
	return nil
}

// drained returns when everything that is queued now has been translated; false when ctx ends first.
func (p *Publisher) drained(ctx context.Context) bool {
	mark := &mark{done: make(chan struct{})}
	p.queue.Add(key{kind: markKey, mark: mark})
	select {
	case <-mark.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow reacts to time and settings.
func (p *Publisher) follow(ctx context.Context, changed <-chan struct{}) {
	every := p.opts.IdleAfter / 4
	if every <= 0 {
		every = time.Hour
	}
	idle := time.NewTicker(every)
	defer idle.Stop()
	grace := time.NewTicker(p.opts.Grace)
	defer grace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if err := p.publishListeners(); err != nil {
				p.opts.Logger.Error("listeners are not published; the last good ones go on", "error", err)
			}
			p.requeueAll()
		case now := <-idle.C:
			p.takeBackIdle(now)
		case now := <-grace.C:
			p.settle(now)
		}
	}
}

func (p *Publisher) requeueRevisions() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.revisions {
		p.queue.Add(key{kind: revisionKey, name: name})
	}
}

func (p *Publisher) requeueAll() {
	p.requeueRevisions()
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.routes {
		p.queue.Add(key{kind: routeKey, name: name})
	}
	for name := range p.mappings {
		p.queue.Add(key{kind: mappingKey, name: name})
	}
}

// next translates one key; false when the queue is shut down.
func (p *Publisher) next() bool {
	k, shutdown := p.queue.Get()
	if shutdown {
		return false
	}
	defer p.queue.Done(k)
	switch k.kind {
	case routeKey:
		p.publishRoute(k.name)
	case revisionKey:
		p.publishRevision(k.name)
	case mappingKey:
		p.publishMapping(k.name)
	case secretKey:
		p.publishSecret(k.name)
	case markKey:
		close(k.mark.done)
	}
	return true
}

// read an object as the cache holds it. It is not to be changed: what is kept of it here is the cache's
// own, so that nothing is in memory twice.
func (p *Publisher) read(name types.NamespacedName, into client.Object) error {
	return p.opts.Cache.Get(context.Background(), name, into, &client.GetOptions{UnsafeDisableDeepCopy: new(true)})
}

func (p *Publisher) podChanged(o client.Object) {
	if name := o.GetLabels()[serving.RevisionLabel]; name != "" {
		p.queue.Add(key{kind: revisionKey, name: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}})
	}
}

// publishListeners gives every gateway its listeners, with the limits of the settings, and what they log and trace. It is called by
// one goroutine at a time.
func (p *Publisher) publishListeners() error {
	now := p.opts.Settings.Load().Observability
	spans, err := collectorOf(now)
	if err != nil {
		return err
	}
	var set []*xds.Resource
	var needs []xds.Key
	var gone []xds.Key
	if spans != nil {
		set, needs = append(set, spans), append(needs, spans.Key)
	} else {
		gone = append(gone, xds.Key{Type: xds.ClusterType, Name: envoy.CollectorCluster})
	}
	limits := translate.Limits(p.opts.Settings.Load())
	for _, l := range observed(p.opts.Listeners, now) {
		l.Limits = limits
		m, err := envoy.Listener(l)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		r, err := xds.NewResource(m.GetName(), m, xds.WithNeeds(needs...))
		if err != nil {
			return err
		}
		set = append(set, r)
	}
	if t := p.opts.Trust; t != nil {
		secrets, err := envoy.TrustSecrets(*t)
		if err != nil {
			return err
		}
		for _, m := range secrets {
			r, err := xds.NewResource(m.GetName(), m)
			if err != nil {
				return err
			}
			set = append(set, r)
		}
	}
	p.server.Update(set, gone)
	return nil
}

func handler(handle func(o client.Object)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { handle(o.(client.Object)) },
		UpdateFunc: func(_, o any) { handle(o.(client.Object)) },
		DeleteFunc: func(o any) {
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if o, ok := o.(client.Object); ok {
				handle(o)
			}
		},
	}
}

// Complete tells whether the whole world has been translated once.
func (p *Publisher) Complete() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}
