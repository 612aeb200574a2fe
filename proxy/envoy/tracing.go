package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"ebb.dev/ebb/proxy/ir"
)

const (
	// CollectorCluster is the gateways' name for the collector of spans.
	CollectorCluster = "ebb-otel-collector"

	collectorTimeout   = 5 * time.Second
	collectorPending   = 1000 // spans' batches that may wait; more are dropped
	longestPathInSpan  = 256  // bytes
	tracingServiceName = "ebb-gateway"
	everyRequest       = 100 // percent
)

// trace makes a listener start or continue a trace for each request: one span a request, whose
// context goes on to the activator or the pod in the headers of W3C Trace Context. The
// listener inside the gateway, by way of which activators are reached, passes them on untouched.
func trace(m *hcmv3.HttpConnectionManager, t ir.Tracing) error {
	config := &tracev3.OpenTelemetryConfig{ServiceName: tracingServiceName}
	if t.Path == "" {
		config.GrpcService = &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: CollectorCluster}},
			Timeout:         span(collectorTimeout),
		}
	} else {
		config.HttpService = &corev3.HttpService{HttpUri: &corev3.HttpUri{
			Uri:              "http://" + net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) + t.Path,
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: CollectorCluster},
			Timeout:          span(collectorTimeout),
		}}
	}
	packed, err := typed(config)
	if err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	percent := func(p float64) *typev3.Percent { return &typev3.Percent{Value: p} }
	m.Tracing = &hcmv3.HttpConnectionManager_Tracing{
		// A client cannot ask for a trace but by a context of its own.
		ClientSampling:   percent(0),
		RandomSampling:   percent(t.Rate * everyRequest),
		OverallSampling:  percent(everyRequest),
		MaxPathTagLength: count(longestPathInSpan),
		Provider: &tracev3.Tracing_Http{
			Name:       "envoy.tracers.opentelemetry",
			ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: packed},
		},
	}
	return nil
}

// Collector encodes the cluster of the collector.
func Collector(t ir.Tracing) (*clusterv3.Cluster, error) {
	if t.Host == "" || t.Port == 0 {
		return nil, errors.New("collector of spans: a host and a port are needed")
	}
	kind := clusterv3.Cluster_STRICT_DNS
	if _, err := netip.ParseAddr(t.Host); err == nil {
		kind = clusterv3.Cluster_STATIC
	}
	cluster := &clusterv3.Cluster{
		Name:                 CollectorCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind},
		ConnectTimeout:       span(connectTimeout),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxPendingRequests: count(collectorPending), MaxRequests: count(collectorPending),
		}}},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: CollectorCluster,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
						Address: t.Host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(t.Port)},
					}}},
				}},
			}}}},
		},
	}
	if t.Path == "" {
		options, err := typed(&httpv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
			}},
		})
		if err != nil {
			return nil, err
		}
		cluster.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpProtocolOptions: options}
	}
	return check("collector of spans", cluster)
}
