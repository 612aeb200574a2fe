package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/backlog"
	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/controllers/certificate"
	"ebb.dev/ebb/controllers/configuration"
	"ebb.dev/ebb/controllers/domainmapping"
	"ebb.dev/ebb/controllers/gc"
	"ebb.dev/ebb/controllers/hpa"
	"ebb.dev/ebb/controllers/revision"
	"ebb.dev/ebb/controllers/route"
	"ebb.dev/ebb/controllers/service"
	settingscontroller "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/publish"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/trust"
)

// lookForCertManager is how often it is looked for while certificates are wanted and it is not there.
const lookForCertManager = 3 * time.Second

// assemble connects the parts: controllers write what the publisher reads, the
// publisher fills the discovery server, load reports reach the scaler, and the scaler drains through the publisher.
func (o *controllerOptions) assemble(log *slog.Logger, mgr ctrl.Manager, health *health, store *settings.Store, listeners []ir.Listener, own trust.Source) error {
	var publisher *publish.Publisher
	var backlogs *backlog.Server
	reports := intake.Options{
		Used:   func(cluster string) { publisher.Used(cluster) },
		Logger: log.With("part", "intake"),
	}
	discovery := xds.Options{Missing: missing, Logger: log.With("part", "xds"), Metrics: metrics.Registry}
	identified(own, &discovery, &reports)
	loads := intake.New(reports)
	activators := members.New(members.Options{
		Store:  &activatorList{client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: o.namespace},
		Logger: log.With("part", "members"),
	})
	publisher, err := publish.New(publish.Options{
		Cache:      mgr.GetCache(),
		Live:       mgr.GetAPIReader(),
		Settings:   store,
		XDS:        discovery,
		Listeners:  listeners,
		Trust:      o.gatewayTrust(own),
		Activators: activators,
		Track:      loads.Track,
		Moved:      func(hosts []string) { backlogs.Moved(hosts) },
		IdleAfter:  o.idleAfter,
		Logger:     log.With("part", "publish"),
	})
	if err != nil {
		return err
	}
	activators.Follow(publisher)
	if err := publisher.Index(context.Background()); err != nil {
		return err
	}
	starts := coldstart.NewRecorder()
	scaler := autoscaler.New(autoscaler.Options{
		Load:       loads,
		Drainer:    publisher,
		Writer:     autoscaler.KubeWriter{Client: mgr.GetClient()},
		ColdStarts: starts,
		Logger:     log.With("part", "autoscaler"),
	})
	if err := registerMetrics(metrics.Registry, o.version, publisher, loads, scaler, starts, health.leading(mgr)); err != nil {
		return err
	}
	loads.SetSink(scaler)
	backlogs = backlog.New(backlog.Options{Sink: scaler, Backends: publisher.Backends, Logger: log.With("part", "backlog")})
	scaling := &autoscaler.Reconciler{
		Client:   mgr.GetClient(),
		Scaler:   scaler,
		Settings: autoscaler.FromStore(store),
		Changed:  store.Subscribe(),
	}
	issuer, err := certificate.Add(mgr, store, lookForCertManager)
	if err != nil {
		return err
	}
	for _, add := range []func() error{
		func() error {
			return settingscontroller.Add(mgr, settingscontroller.Options{Store: store, Namespace: o.namespace})
		},
		func() error { return service.Add(mgr, service.Options{}) },
		func() error { return configuration.Add(mgr, configuration.Options{}) },
		func() error {
			return revision.Add(mgr, revision.Options{Settings: store, DrainAddress: o.drainAddress})
		},
		func() error {
			return route.Add(mgr, route.Options{Settings: store, Programmed: publisher, Issuer: issuer, GatewayService: o.gatewayService})
		},
		func() error { return gc.Add(mgr, gc.Options{Settings: store}) },
		func() error { return hpa.Add(mgr, hpa.Options{Settings: store}) },
		func() error {
			return domainmapping.Add(mgr, domainmapping.Options{Settings: store, Programmed: publisher, Issuer: issuer})
		},
		func() error { return scaling.SetupWithManager(mgr) },
		func() error { return mgr.Add(everywhere(publisher.Warm)) },
		func() error { return mgr.Add(publisher) },
	} {
		if err := add(); err != nil {
			return err
		}
	}
	admission.Register(mgr.GetWebhookServer(), store, revision.DryRun(mgr.GetClient(), store))

	server := grpc.NewServer(append(xds.GRPCOptions(), serverOptions(own)...)...)
	publisher.Server().Register(server)
	loads.Register(server)
	backlogs.Register(server)
	link.RegisterMembershipServer(server, activators)
	link.RegisterDrainServer(server, drainServer{service: &autoscaler.DrainService{Scaler: scaler, Live: mgr.GetAPIReader()}})
	serving := &control{address: o.xdsListen, server: server, log: log}
	if err := mgr.Add(serving); err != nil {
		return fmt.Errorf("add the discovery server: %w", err)
	}
	synced := &synced{cache: mgr.GetCache()}
	if err := mgr.Add(synced); err != nil {
		return fmt.Errorf("watch the caches: %w", err)
	}
	health.set(mgr, publisher, activators, loads, scaling, store)
	health.setChecks([]check{
		{"admission", func(r *http.Request) error { return mgr.GetWebhookServer().StartedChecker()(r) }},
		{"caches", func(*http.Request) error { return unless(synced.done.Load(), "they are not filled yet") }},
		{"configuration", func(*http.Request) error {
			return unless(!health.leading(mgr)() || publisher.Complete(), "it is not complete yet")
		}},
		{"discovery", func(*http.Request) error {
			return unless(!health.leading(mgr)() || serving.open.Load(), "its server does not listen yet")
		}},
	})
	return nil
}

// everywhere runs in every replica.
type everywhere func(context.Context) error

func (e everywhere) Start(ctx context.Context) error { return e(ctx) }

func (everywhere) NeedLeaderElection() bool { return false }

// drainServer answers the hooks of ending pods, which activators pass on.
type drainServer struct {
	link.UnimplementedDrainServer
	service *autoscaler.DrainService
}

func (d drainServer) Await(ctx context.Context, request *link.AwaitRequest) (*link.AwaitResponse, error) {
	if err := d.service.AwaitPodDrain(ctx, request.GetNamespace(), request.GetRevision()); err != nil {
		return nil, status.Error(codes.DeadlineExceeded, err.Error())
	}
	return &link.AwaitResponse{}, nil
}
