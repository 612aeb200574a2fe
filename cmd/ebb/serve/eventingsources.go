package serve

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apiserversource"
	"ebb.dev/ebb/controllers/containersource"
	"ebb.dev/ebb/controllers/eventtype"
	"ebb.dev/ebb/controllers/pingsource"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/sinkbinding"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/eventing/sources"
	"ebb.dev/ebb/eventing/translate"
)

// addSources puts the controllers of sources into mgr; they work in the leader.
func (o *eventingOptions) addSources(mgr ctrl.Manager, log *slog.Logger, known *settings.Store, store engine.Engine, sinks *sink.Resolver, recorder *eventtype.Recorder) error {
	log = log.With("part", "sources")
	sender := &sources.Sender{
		Engine: store, Client: &http.Client{Transport: o.toSinks(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Delivery: func() plan.Delivery { return translate.Delivery(known.Load()) },
		Seen:     func(a plan.Address, e *event.Event) { recorder.Seen(a, e.Type, e.Source, e.DataSchema) },
	}
	for _, err := range []error{
		pingsource.Add(mgr, pingsource.Options{Sinks: sinks, Sender: sender, Logger: log}),
		apiserversource.Add(mgr, apiserversource.Options{Sinks: sinks, Sender: sender, Logger: log}),
		containersource.Add(mgr, sinks),
		sinkbinding.Add(mgr, sinkbinding.Options{Sinks: sinks}),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// toSinks dials names inside the cluster as the dispatcher does.
func (o *eventingOptions) toSinks() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	inCluster := func(host string) bool {
		return o.clusterLocal != "" && (strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, "."+settings.ClusterLocalDomain))
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, port, err := net.SplitHostPort(address); err == nil && port != "443" && inCluster(host) {
				address = o.clusterLocal
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
	return transport
}

// deploymentsOfSources keeps of all Deployments those of ContainerSources in memory.
func deploymentsOfSources() map[client.Object]cache.ByObject {
	made, err := labels.NewRequirement(containersource.SourceLabel, selection.Exists, nil)
	if err != nil {
		panic(err) // the key is a constant
	}
	return map[client.Object]cache.ByObject{&appsv1.Deployment{}: {Label: labels.NewSelector().Add(*made)}}
}
