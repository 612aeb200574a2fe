package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/credentials"
	settingscontroller "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
)

// LeaderLease is the Lease that the replica which leads holds.
const LeaderLease = "ebb-controller"

// A leader that is killed is replaced when its lease has ended; one that is told to end gives it back, and another
// one, which asks that often (with jitter up to 2.2 times as long), has it.
const (
	leaseDuration = 10 * time.Second
	renewDeadline = 7 * time.Second
	leaseRetry    = 700 * time.Millisecond
	stopWithin    = 5 * time.Second
)

type controllerOptions struct {
	version                      string
	kubeconfig, namespace        string
	xdsListen                    string
	tls                          tlsFiles
	gatewayTLS                   tlsFiles // where gateways have theirs
	issue                        bool     // certificates are kept in Secrets
	webhookService               string
	webhookListen                string
	webhookCert, webhookKey      string
	metricsListen                string
	profiles                     profiling
	drainAddress, gatewayService string
	drainService                 string
	drainPort                    uint16
	httpListen, internalListen   string
	httpsListen                  string
	idleAfter                    time.Duration
	leaderElect                  bool
	verbose                      bool
}

// ControllerCommand is `ebb controller`, which says that it is the version given.
func ControllerCommand(version string) *cobra.Command {
	o := &controllerOptions{version: version}
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the control plane: controllers, admission, autoscaler, discovery server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return o.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`FILE` that names the kube-apiserver; in a pod its service account is used")
	f.StringVar(&o.namespace, "namespace", "ebb-system", "namespace of the settings and the lease")
	f.StringVar(&o.xdsListen, "xds-listen", ":18000", "`ADDRESS` for gateways and activators: discovery, load reports, draining")
	o.tls.flags(f)
	f.StringVar(&o.gatewayTLS.cert, "gateway-tls-cert", "/etc/ebb/tls/tls.crt", "`FILE` that every gateway has its certificate in, for the way to activators; gateways read it again when it changes")
	f.StringVar(&o.gatewayTLS.key, "gateway-tls-key", "/etc/ebb/tls/tls.key", "`FILE` that every gateway has its private key in")
	f.StringVar(&o.gatewayTLS.ca, "gateway-tls-ca", "/etc/ebb/tls/ca.crt", "`FILE` that every gateway has the authorities in")
	f.BoolVar(&o.issue, "issue-certificates", false, "keep the certificates of all parts in Secrets of the namespace, and use this part's own from there; instead of --tls-* and --webhook-cert, --webhook-key")
	f.StringVar(&o.webhookService, "webhook-service", "ebb-controller", "`NAME` of the Service by which the kube-apiserver reaches admission, for its certificate")
	f.StringVar(&o.webhookListen, "webhook-listen", ":9443", "`ADDRESS` for admission requests")
	f.StringVar(&o.webhookCert, "webhook-cert", "", "certificate `FILE` for admission")
	f.StringVar(&o.webhookKey, "webhook-key", "", "private key `FILE` for admission")
	f.StringVar(&o.metricsListen, "metrics-listen", ":9090", "`ADDRESS` of /metrics, /healthz, /readyz and /status")
	o.profiles.flags(f)
	f.StringVar(&o.drainAddress, "drain-address", "", "`HOST:PORT` where activators answer the preStop hooks of pods")
	f.StringVar(&o.drainService, "drain-service", "", "`NAME` of the Service at whose address activators do so, instead of --drain-address")
	f.Uint16Var(&o.drainPort, "drain-port", 8013, "`PORT` of --drain-service")
	f.StringVar(&o.gatewayService, "gateway-service", "ebb-gateway-internal.ebb-system.svc.cluster.local", "DNS `NAME` of the gateways' in-cluster listener")
	f.StringVar(&o.httpListen, "http-listen", "0.0.0.0:8080", "`ADDRESS` that gateways listen on for callers outside the cluster")
	f.StringVar(&o.httpsListen, "https-listen", "0.0.0.0:8443", "`ADDRESS` that gateways listen on with TLS for callers outside the cluster; empty for none")
	f.StringVar(&o.internalListen, "http-internal-listen", "0.0.0.0:8081", "`ADDRESS` that gateways listen on for callers inside the cluster")
	f.DurationVar(&o.idleAfter, "configuration-idle", 10*time.Minute, "how long a route's configuration stays in the gateways after its last request; 0 for ever")
	f.BoolVar(&o.leaderElect, "leader-elect", true, "work only while holding the lease; off for a single replica")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log what is usually not worth a line")
	return cmd
}

func (o *controllerOptions) run(ctx context.Context) error {
	log := newLogger(o.verbose)
	slog.SetDefault(log)
	useQuickLists()
	spareMemory(ctx)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))

	if err := o.profiles.start(ctx, log); err != nil {
		return err
	}
	if o.drainAddress != "" && o.drainService != "" {
		return errors.New("--drain-address and --drain-service: one of them is needed")
	}
	if err := o.checkCertificates(); err != nil {
		return err
	}
	listeners, err := o.listeners()
	if err != nil {
		return err
	}
	kube, err := o.restConfig()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1.AddToScheme(scheme), v1beta1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	own, err := o.tls.source(log)
	if err != nil {
		return err
	}
	certificate := o.webhookFiles
	var keeper *credentials.Keeper
	if o.issue {
		if keeper, err = o.keeper(ctx, kube, scheme, log); err != nil {
			return err
		}
		own, certificate = &keeper.Controller, held(&keeper.Webhook)
	}
	hooks, err := o.webhookServer(certificate)
	if err != nil {
		return err
	}
	health := &health{version: o.version}
	mgr, err := ctrl.NewManager(kube, ctrl.Options{
		Scheme:                        scheme,
		Logger:                        logr.FromSlogHandler(log.Handler()),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsListen, ExtraHandlers: health.handlers()},
		HealthProbeBindAddress:        "0",
		WebhookServer:                 hooks,
		Cache:                         cacheOptions(o.namespace),
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              LeaderLease,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(leaseRetry),
		GracefulShutdownTimeout:       new(stopWithin),
		// What a replica that does not lead will reconcile is read already.
		Controller: config.Controller{EnableWarmup: new(true)},
	})
	if err != nil {
		return fmt.Errorf("connect to the kube-apiserver at %s: %w", kube.Host, err)
	}
	store := settings.NewStore()
	if err := settingscontroller.Load(ctx, mgr.GetAPIReader(), settingscontroller.Options{Store: store, Namespace: o.namespace}); err != nil {
		return err
	}
	if o.drainService != "" {
		hooks := &hookService{namespace: o.namespace, name: o.drainService, port: strconv.Itoa(int(o.drainPort)), log: log}
		if o.drainAddress, err = hooks.find(ctx, mgr.GetAPIReader()); err != nil {
			return err
		}
		if err := mgr.Add(manager.RunnableFunc(hooks.watch(mgr.GetCache()))); err != nil {
			return err
		}
	}
	if keeper != nil {
		keeper.Leading = health.leading(mgr)
		if err := credentials.Add(mgr, keeper); err != nil {
			return err
		}
	}
	if err := o.assemble(log, mgr, health, store, listeners, own); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func (o *controllerOptions) restConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	kube, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no kube-apiserver is known (give --kubeconfig FILE): %w", err)
	}
	kube.QPS, kube.Burst = 500, 1000
	kube.UserAgent = "ebb-controller"
	return kube, nil
}

// cacheOptions keep only what is used in memory: of all pods (and what scales them) those of revisions, of all
// ConfigMaps the settings, of Secrets the metadata of those with a certificate, and of every object no managed fields.
func cacheOptions(namespace string) cache.Options {
	ofRevisions, err := labels.NewRequirement(serving.RevisionLabel, selection.Exists, nil)
	if err != nil {
		panic(err) // the key is a constant
	}
	selector := labels.NewSelector().Add(*ofRevisions)
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:                            {Label: selector, Transform: trimPod},
			&appsv1.Deployment{}:                     {Label: selector},
			&autoscalingv2.HorizontalPodAutoscaler{}: {Label: selector},
			&corev1.Secret{}:                         {Field: fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS)), Transform: trimSecret},
			&corev1.ConfigMap{}:                      {Namespaces: map[string]cache.Config{namespace: {}}},
		},
	}
}

// trimSecret leaves what tells one state of a Secret from another: only metadata is
// watched, and whoever needs the content reads that one Secret.
func trimSecret(o any) (any, error) {
	if secret, ok := o.(*metav1.PartialObjectMetadata); ok {
		secret.ManagedFields, secret.Annotations, secret.Labels, secret.OwnerReferences = nil, nil, nil, nil
	}
	return o, nil
}

// trimPod drops the parts of a pod that nobody here reads.
func trimPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	pod.ManagedFields = nil
	pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName, TerminationGracePeriodSeconds: pod.Spec.TerminationGracePeriodSeconds}
	return pod, nil
}

func (o *controllerOptions) webhookServer(certificate certificateOf) (webhook.Server, error) {
	host, port, err := splitHostPort("--webhook-listen", o.webhookListen)
	if err != nil {
		return nil, err
	}
	return webhook.NewServer(webhook.Options{Host: host, Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.GetCertificate = certificate
	}}}), nil
}

func (o *controllerOptions) listeners() ([]ir.Listener, error) {
	external, err := netip.ParseAddrPort(o.httpListen)
	if err != nil {
		return nil, fmt.Errorf("--http-listen: %w", err)
	}
	internal, err := netip.ParseAddrPort(o.internalListen)
	if err != nil {
		return nil, fmt.Errorf("--http-internal-listen: %w", err)
	}
	var secure netip.AddrPort
	if o.httpsListen != "" {
		if secure, err = netip.ParseAddrPort(o.httpsListen); err != nil {
			return nil, fmt.Errorf("--https-listen: %w", err)
		}
	}
	return translate.Listeners(external, secure, internal), nil
}

func splitHostPort(flag, address string) (string, int, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", flag, err)
	}
	port, err := net.LookupPort("tcp", portText)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", flag, err)
	}
	return host, port, nil
}
