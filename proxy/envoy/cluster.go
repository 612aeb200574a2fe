package envoy

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"ebb.dev/ebb/proxy/ir"
)

const (
	connectTimeout = time.Second

	// Shorter than the shortest keep-alive that servers commonly use (2 s), so that
	// it is the gateway that closes an idle connection, not the pod as a request arrives.
	upstreamIdle = 1500 * time.Millisecond

	// Breakers are no limits here, those are the activator's; they only bound the damage.
	breaker = 100_000
	// A request that an activator holds after its pod refused it is a retry for as long as it is held: a budget of retries
	// would let that many wait and turn the next one away. Each request has its own bound (retries).
	minRetryConcurrency = breaker
)

const httpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// Cluster encodes a cluster whose endpoints come by [ClusterLoadAssignment] under
// the same name. Envoy asks for them at once and, when the cluster changes, needs them
// sent again.
func Cluster(c ir.Cluster) (*clusterv3.Cluster, error) {
	made, err := cluster(c, upstreamIdle)
	if err != nil {
		return nil, err
	}
	return check(who(c.Owner, c.Name), made)
}

// cluster is Cluster with connections that may be idle for so long, not checked yet.
func cluster(c ir.Cluster, idle time.Duration) (*clusterv3.Cluster, error) {
	protocol, err := upstreamProtocol(c.Protocol, idle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who(c.Owner, c.Name), err)
	}
	return &clusterv3.Cluster{
		Name:                          c.Name,
		AltStatName:                   c.Stats,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:              &clusterv3.Cluster_EdsClusterConfig{EdsConfig: fromADS()},
		LbPolicy:                      clusterv3.Cluster_LEAST_REQUEST,
		ConnectTimeout:                span(connectTimeout),
		PerConnectionBufferLimitBytes: count(upstreamBuffer),
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{Value: 0},
			// An endpoint that is ejected or drains gets nothing more from that moment on; Envoy
			// would tell its workers of a second change within a second only after that second.
			UpdateMergeWindow: span(0),
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     count(breaker),
			MaxPendingRequests: count(breaker),
			MaxRequests:        count(breaker),
			RetryBudget: &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
				BudgetPercent:       &typev3.Percent{Value: 100},
				MinRetryConcurrency: count(minRetryConcurrency),
			},
		}}},
		OutlierDetection:              outlierDetection(),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpProtocolOptions: protocol},
	}, nil
}

// upstreamProtocol says what to speak to the endpoints. Pods have no TLS, so it
// cannot be negotiated: it is given, or it is the client's.
func upstreamProtocol(p ir.Protocol, idle time.Duration) (*anypb.Any, error) {
	http1 := &corev3.Http1ProtocolOptions{EnableTrailers: true}
	http2 := &corev3.Http2ProtocolOptions{
		InitialStreamWindowSize:     count(upstreamStreamWindow),
		InitialConnectionWindowSize: count(upstreamConnectionWindow),
	}
	options := &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: span(idle)},
		OutlierDetection:          answersAreNoFailures(),
	}
	switch p {
	case ir.Auto:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: http1, Http2ProtocolOptions: http2,
			},
		}
	case ir.HTTP1:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: http1},
			},
		}
	case ir.H2C:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2},
			},
		}
	default:
		return nil, fmt.Errorf("protocol %q: http1, h2c or auto is needed", p)
	}
	return typed(options)
}
