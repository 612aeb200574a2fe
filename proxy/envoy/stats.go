package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// SeriesPerRevision is the most series that a gateway has of one revision in use: five classes of status,
// the requests in flight, and the histogram's buckets with infinity, sum and count.
const SeriesPerRevision = 5 + 1 + 8 + 3

// Bounds of the buckets of latencies in milliseconds. Each is a series of every revision in use.
var latencyBuckets = []float64{5, 10, 25, 50, 100, 250, 1000, 5000}

// revisionStats matches [ir.RevisionStats] in the name of a stat.
const revisionStats = `revision/[^/.]+/[^/.]+/[^/.]+`

// statsConfig is what is counted, and under which labels. What Envoy counts for a
// cluster by default costs more memory than the cluster itself, so there is a list. Requests by way
// of an activator are counted once: neither the listener inside the gateway nor the cluster
// behind it is on the list.
func statsConfig() *metricsv3.StatsConfig {
	tag := func(name, regex string) *metricsv3.TagSpecifier {
		return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: regex}}
	}
	buckets := func(prefix string) *metricsv3.HistogramBucketSettings {
		return &metricsv3.HistogramBucketSettings{Match: prefixed(prefix), Buckets: latencyBuckets}
	}
	return &metricsv3.StatsConfig{
		StatsMatcher: statsKept(),
		// Of a match the first group is cut out of the name and the second is the value.
		UseAllDefaultTags: wrapperspb.Bool(false),
		StatsTags: []*metricsv3.TagSpecifier{
			tag("namespace", `^cluster\.(revision/([^/.]+)/[^/.]+/[^/.]+\.)`),
			tag("service", `^cluster\.(revision/[^/.]+/([^/.]+)/[^/.]+\.)`),
			tag("revision", `^cluster\.(revision/[^/.]+/[^/.]+/([^/.]+)\.)`),
			tag("listener", `^http\.(((?:external|internal)[a-z0-9-]*)\.)`),
			tag("class", `_rq(_([1-5]xx))$`),
		},
		HistogramBucketSettings: []*metricsv3.HistogramBucketSettings{buckets("cluster.revision/"), buckets("http.")},
	}
}

func statsKept() *metricsv3.StatsMatcher {
	patterns := []*matcherv3.StringMatcher{}
	for _, prefix := range []string{
		"cluster." + controllerCluster + ".", "cluster_manager.", "control_plane.", "listener_manager.", "server.",
	} {
		patterns = append(patterns, prefixed(prefix))
	}
	for _, regex := range []string{
		`cluster\.` + revisionStats + `\.upstream_rq_([1-5]xx|active|time)`,
		`http\.(external|internal)[a-z0-9-]*\.(downstream_|no_route|tracing).*`,
	} {
		patterns = append(patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: regex},
		}})
	}
	return &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{
		InclusionList: &matcherv3.ListStringMatcher{Patterns: patterns},
	}}
}

func prefixed(prefix string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}}
}

// Names of the listener of metrics, and of the way from it to the admin interface.
const (
	metricsListener = "metrics"
	adminCluster    = "ebb-admin"

	metricsTimeout     = 30 * time.Second
	metricsHeadersKiB  = 16
	metricsConnections = 64
)

// addMetrics gives the gateway a listener that passes two questions on to the admin interface,
// which itself stays local. Series of revisions without requests are left out.
func addMetrics(b *bootstrapv3.Bootstrap, listen string, admin *corev3.Address) error {
	at, err := netip.ParseAddrPort(listen)
	if err != nil {
		return fmt.Errorf("metrics %q: ip:port is needed: %w", listen, err)
	}
	if admin == nil {
		return errors.New("metrics: they are the admin interface's, so an address of that is needed too")
	}
	if s := admin.GetSocketAddress(); s != nil && s.GetPortValue() == 0 {
		return errors.New("metrics: the port of the admin interface must be given, not chosen by the system")
	}
	router, err := typed(&routerv3.Router{SuppressEnvoyHeaders: true})
	if err != nil {
		return err
	}
	route := func(path, to string) *routev3.Route {
		return &routev3.Route{
			Match: &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_Path{Path: path},
				Headers: []*routev3.HeaderMatcher{{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
					StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "GET"}},
				}}},
			},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: adminCluster},
				PrefixRewrite:    to,
				Timeout:          span(metricsTimeout),
			}},
		}
	}
	manager, err := typed(&hcmv3.HttpConnectionManager{
		StatPrefix: metricsListener,
		CodecType:  hcmv3.HttpConnectionManager_HTTP1,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: metricsListener,
			VirtualHosts: []*routev3.VirtualHost{{
				Name: "all", Domains: []string{"*"},
				Routes: []*routev3.Route{route("/metrics", "/stats/prometheus?usedonly"), route("/ready", "/ready")},
			}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
		MaxRequestHeadersKb:   count(metricsHeadersKiB),
		RequestHeadersTimeout: span(metricsTimeout),
		StreamIdleTimeout:     span(metricsTimeout),
	})
	if err != nil {
		return err
	}
	b.StaticResources.Listeners = append(b.StaticResources.Listeners, &listenerv3.Listener{
		Name: metricsListener, StatPrefix: metricsListener, Address: address(at),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
		}}}},
	})
	b.StaticResources.Clusters = append(b.StaticResources.Clusters, &clusterv3.Cluster{
		Name:                 adminCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       span(controllerConnect),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: count(metricsConnections), MaxPendingRequests: count(metricsConnections), MaxRequests: count(metricsConnections),
		}}},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: adminCluster,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: admin}},
			}}}},
		},
	})
	return nil
}
