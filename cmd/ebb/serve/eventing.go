package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"ebb.dev/ebb/apis/eventing"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	eventingv1beta2 "ebb.dev/ebb/apis/eventing/v1beta2"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/controllers/broker"
	"ebb.dev/ebb/controllers/channel"
	"ebb.dev/ebb/controllers/eventtype"
	"ebb.dev/ebb/controllers/feed"
	"ebb.dev/ebb/controllers/parallel"
	"ebb.dev/ebb/controllers/sequence"
	settingscontroller "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/subscription"
	"ebb.dev/ebb/controllers/topic"
	"ebb.dev/ebb/controllers/trigger"
	"ebb.dev/ebb/eventing/backlog"
	"ebb.dev/ebb/eventing/dispatcher"
	"ebb.dev/ebb/eventing/ingress"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/eventing/translate"
)

type eventingOptions struct {
	kubeconfig, namespace string
	listen, ingressURL    string
	store                 jetstream.Options
	passwordFile          string
	storeTLS              tlsFiles
	storeEmbedded         bool
	clusterLocal          string
	control               string
	controlTLS            tlsFiles
	metricsListen         string
	inspectListen         string
	profiles              profiling
	drain                 time.Duration
	leaderElect, verbose  bool
}

// EventingCommand is `ebb eventing`.
func EventingCommand() *cobra.Command {
	o := &eventingOptions{}
	cmd := &cobra.Command{
		Use:   "eventing",
		Short: "Run the eventing part: controllers of Brokers, Triggers and Channels, the ingress of events, the dispatcher",
		Long: `Run the eventing part: controllers of Brokers, Triggers and Channels, the ingress of events, the dispatcher.

Every replica takes and delivers events; the one that holds the lease writes the objects' status
and keeps the topics of the store.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return o.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`FILE` that names the kube-apiserver; in a pod its service account is used")
	f.StringVar(&o.namespace, "namespace", "ebb-system", "namespace of the settings and the lease")
	f.StringVar(&o.listen, "listen", ":8080", "`ADDRESS` that events are sent to")
	f.StringVar(&o.ingressURL, "ingress-url", "", "`URL` by which senders reach --listen, the beginning of every Broker's address (default http://broker-ingress.NAMESPACE.svc.cluster.local)")
	f.StringVar(&o.store.URL, "nats", "nats://ebb-nats.ebb-system.svc:4222", "`URL` of the NATS servers with JetStream that store events, several with commas")
	f.StringVar(&o.store.CredentialsFile, "nats-credentials", "", "`FILE` with NATS credentials (.creds)")
	f.StringVar(&o.store.User, "nats-user", "", "`NAME` for the NATS servers, with --nats-password-file")
	f.StringVar(&o.passwordFile, "nats-password-file", "", "`FILE` with the password for the NATS servers")
	f.StringVar(&o.storeTLS.cert, "nats-tls-cert", "", "certificate `FILE` of this client of the NATS servers")
	f.StringVar(&o.storeTLS.key, "nats-tls-key", "", "private key `FILE` of this client of the NATS servers")
	f.StringVar(&o.storeTLS.ca, "nats-tls-ca", "", "`FILE` with the authorities of the NATS servers")
	f.BoolVar(&o.storeEmbedded, "nats-embedded", false, "the NATS server is Ebb's own, started by \"ebb nats\": each of the two shows the other a certificate for its role, from the files of --nats-tls-…, which are read again when they change")
	f.StringVar(&o.clusterLocal, "cluster-local", "", "`HOST:PORT` of the gateways' in-cluster listener, for names under .svc.cluster.local where there is no cluster DNS")
	f.StringVar(&o.control, "control", "", "`HOST:PORT` of the control plane, whose autoscaler is told what is still to be delivered; several with commas between them, or a name that stands for several, where replicas take turns. Nobody is told when not given")
	o.controlTLS.flags(f)
	f.StringVar(&o.metricsListen, "metrics-listen", ":9090", "`ADDRESS` of /metrics, /healthz and /readyz")
	f.StringVar(&o.inspectListen, "inspect-listen", inspectListen, "`ADDRESS` of the loopback that answers ebb events; \"\": none")
	f.DurationVar(&o.drain, "drain-timeout", 25*time.Second, "how long deliveries in flight may take once it is told to end; after that others make them again")
	o.profiles.flags(f)
	f.BoolVar(&o.leaderElect, "leader-elect", true, "write status only while holding the lease; off for a single replica")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log what is usually not worth a line")
	return cmd
}

func (o *eventingOptions) run(ctx context.Context) error {
	log := newLogger(o.verbose)
	slog.SetDefault(log)
	useQuickLists()
	spareMemory(ctx)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	if err := o.profiles.start(ctx, log); err != nil {
		return err
	}
	if o.ingressURL == "" {
		o.ingressURL = "http://broker-ingress." + o.namespace + "." + settings.ClusterLocalDomain
	}
	if err := o.storeSecrets(log); err != nil {
		return err
	}
	config, err := (&controllerOptions{kubeconfig: o.kubeconfig}).restConfig()
	if err != nil {
		return err
	}
	config.UserAgent = "ebb-eventing"
	scheme := runtime.NewScheme()
	if err := errors.Join(
		clientgoscheme.AddToScheme(scheme), v1.AddToScheme(scheme), eventingv1.AddToScheme(scheme), eventingv1beta2.AddToScheme(scheme),
		messagingv1.AddToScheme(scheme), flowsv1.AddToScheme(scheme), sourcesv1.AddToScheme(scheme),
	); err != nil {
		return err
	}
	o.store.Name, o.store.Logger = "ebb-eventing", log.With("part", "store")
	store, err := jetstream.Open(o.store)
	if err != nil {
		return fmt.Errorf("--nats: %w", err)
	}
	defer store.Close()
	teller, hangUp, err := o.teller(log)
	if err != nil {
		return err
	}
	defer hangUp()

	kept := deploymentsOfSources()
	kept[&corev1.ConfigMap{}] = cache.ByObject{Namespaces: map[string]cache.Config{o.namespace: {}}}
	if err := serveInspect(ctx, o.inspectListen, store, log); err != nil {
		return err
	}
	health := &eventingHealth{store: store}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Logger:                 logr.FromSlogHandler(log.Handler()),
		Metrics:                metricsserver.Options{BindAddress: o.metricsListen, ExtraHandlers: health.handlers()},
		HealthProbeBindAddress: "0",
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         kept,
		},
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "ebb-eventing",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("connect to the kube-apiserver at %s: %w", config.Host, err)
	}
	known := settings.NewStore()
	if err := settingscontroller.Load(ctx, mgr.GetAPIReader(), settingscontroller.Options{Store: known, Namespace: o.namespace}); err != nil {
		return err
	}
	parts, err := o.assemble(mgr, log, known, store, teller)
	if err != nil {
		return err
	}
	health.ready = parts.open.Load
	if teller != nil {
		go teller.Run(ctx) // a dispatcher that is told to go says nothing more
	}
	return o.serve(ctx, mgr, parts, log)
}

// eventingParts are what takes events and what delivers them.
type eventingParts struct {
	ingress    *ingress.Ingress
	dispatcher *dispatcher.Dispatcher
	open       atomic.Bool // the ingress knows all topics
}

func (o *eventingOptions) assemble(mgr ctrl.Manager, log *slog.Logger, known *settings.Store, store *jetstream.Engine, teller *backlog.Teller) (*eventingParts, error) {
	recorder, err := eventtype.NewRecorder(mgr, known)
	if err != nil {
		return nil, err
	}
	deliveries := dispatcher.Options{
		Engine: store, Logger: log.With("part", "dispatcher"), ClusterLocal: o.clusterLocal,
		AckWait: known.Load().Eventing.AckWait,
	}
	if teller != nil {
		deliveries.Reporter = teller
	}
	parts := &eventingParts{
		ingress: ingress.New(ingress.Options{
			Engine: store, Logger: log.With("part", "ingress"),
			Seen: func(s ingress.Seen) { recorder.Seen(s.Address, s.Type, s.Source, s.Schema) },
		}),
		dispatcher: dispatcher.New(deliveries),
	}
	if err := mgr.Add(&opening{cache: mgr.GetCache(), settings: known, parts: parts}); err != nil {
		return nil, err
	}
	for _, c := range append(parts.ingress.Collectors(), parts.dispatcher) {
		if err := metrics.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	keeper := &topic.Keeper{
		Client: mgr.GetClient(), Engine: store, Settings: known, Ingress: o.ingressURL, Now: time.Now,
		Sinks: &sink.Resolver{Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Mapper: mgr.GetRESTMapper()},
	}
	for _, err := range []error{
		settingscontroller.Add(mgr, settingscontroller.Options{Store: known, Namespace: o.namespace}),
		broker.Add(mgr, keeper),
		channel.Add(mgr, keeper),
		trigger.Add(mgr, trigger.Options{Keeper: keeper}),
		subscription.Add(mgr, keeper),
		sequence.Add(mgr),
		parallel.Add(mgr),
		eventtype.Add(mgr, keeper.Sinks),
		o.addSources(mgr, log, known, store, keeper.Sinks, recorder),
		feed.Add(mgr, feed.Options{Settings: known, Topics: parts.ingress, Subscriptions: parts.dispatcher}),
	} {
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// serve takes events until ctx ends. Then it says that it is not ready, finishes what it has begun to
// store and to deliver, and only then lets the manager, which holds the lease and answers probes, end.
func (o *eventingOptions) serve(ctx context.Context, mgr ctrl.Manager, parts *eventingParts, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	server := &http.Server{
		Handler: parts, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	broken := make(chan error, 1)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			broken <- fmt.Errorf("serve events on %s: %w", o.listen, err)
		}
	}()
	log.Info("taking events", "address", listener.Addr().String(), "url", o.ingressURL, "store", o.store.URL)

	managed, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(managed) }()
	var result error
	select {
	case <-ctx.Done():
	case result = <-broken:
	case result = <-ended:
		ended <- result
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drain)
	defer cancel()
	if err := parts.ingress.Drain(finish); err != nil {
		log.Warn("events that were being stored got no answer in time", "error", err)
	}
	parts.dispatcher.Drain(finish)
	_ = server.Shutdown(finish)
	end()
	return errors.Join(result, <-ended)
}

// ServeHTTP takes events once the topics are known: before that one that is there would be answered 404.
func (p *eventingParts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.open.Load() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "this ingress is starting; send the event again", http.StatusServiceUnavailable)
		return
	}
	p.ingress.ServeHTTP(w, r)
}

// opening tells the ingress of all topics that there are and opens it; what changes from then on is told by feed.
type opening struct {
	cache    cache.Cache
	settings *settings.Store
	parts    *eventingParts
}

// NeedLeaderElection is false: every replica takes events.
func (*opening) NeedLeaderElection() bool { return false }

func (o *opening) Start(ctx context.Context) error {
	if !o.cache.WaitForCacheSync(ctx) {
		return nil
	}
	var brokers eventingv1.BrokerList
	var channels messagingv1.ChannelList
	if err := errors.Join(o.cache.List(ctx, &brokers, client.UnsafeDisableDeepCopy), o.cache.List(ctx, &channels, client.UnsafeDisableDeepCopy)); err != nil {
		return fmt.Errorf("list Brokers and Channels: %w", err)
	}
	s := o.settings.Load()
	for i := range brokers.Items {
		if b := &brokers.Items[i]; b.DeletionTimestamp == nil && eventing.Ours(b.Annotations) {
			o.parts.ingress.Set(translate.Broker(b, s))
		}
	}
	for i := range channels.Items {
		if c := &channels.Items[i]; c.DeletionTimestamp == nil {
			o.parts.ingress.Set(translate.Channel(c, s))
		}
	}
	o.parts.open.Store(true)
	return nil
}

// eventingHealth answers probes.
type eventingHealth struct {
	store *jetstream.Engine
	ready func() bool
}

func (h *eventingHealth) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		"/readyz": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
			defer cancel()
			switch err := h.store.Ready(ctx); {
			case err != nil:
				http.Error(w, "store of events: "+err.Error(), http.StatusServiceUnavailable)
			case h.ready == nil || !h.ready():
				http.Error(w, "caches: they are not filled yet", http.StatusServiceUnavailable)
			default:
				w.WriteHeader(http.StatusOK)
			}
		}),
	}
}
