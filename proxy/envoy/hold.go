package envoy

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"ebb.dev/ebb/proxy/ir"
)

const (
	// An activator that died is tried again, or another one is, until one takes the
	// request: about five seconds at half the back-off each, long enough for a restart.
	holdRetries          = 100
	holdFirstBackOff     = 10 * time.Millisecond
	holdBackOffAtMost    = 100 * time.Millisecond
	holdHostSelections   = 3
	holdExtraHeaderKiB   = 32 // what the gateway itself adds to a request
	holdExtraHeaderCount = 32

	// Connections to activators, which never close one themselves, outlive the pauses of common traffic: each costs a
	// handshake.
	activatorIdle = 10 * time.Minute
)

// HoldResources are what a gateway needs to reach an activator by way of a hold.
type HoldResources struct {
	Listener  *listenerv3.Listener
	Cluster   *clusterv3.Cluster
	Endpoints *endpointv3.ClusterLoadAssignment
}

// Hold encodes the way to one activator: a listener inside the gateway whose requests
// go to the activator, and to another one when the connection breaks before a response
// began. An activator says by an informational response (1xx), which no client sees,
// that it begins to pass a request on that must not run twice: Envoy's router retries
// nothing after one. So what an activator that is killed still held is held by the next one, a POST too.
func Hold(h ir.Hold) (*HoldResources, error) {
	fail := func(err error) (*HoldResources, error) { return nil, fmt.Errorf("hold %s: %w", h.Name, err) }
	if h.Name == "" || len(h.Activators) == 0 {
		return fail(errors.New("a name and an activator are needed"))
	}
	out := &HoldResources{}
	var err error
	name := holdCluster(h.Name)
	if out.Cluster, err = cluster(ir.Cluster{Name: name, Protocol: ir.Auto}, activatorIdle); err != nil {
		return fail(err)
	}
	if h.Identity != "" {
		if out.Cluster.TransportSocket, err = activatorTLS(h.Identity); err != nil {
			return fail(err)
		}
	}
	if out.Cluster, err = check("hold "+h.Name, out.Cluster); err != nil {
		return fail(err)
	}
	endpoints := ir.Endpoints{Cluster: name}
	endpoints.Priorities[0], endpoints.Priorities[1] = h.Activators[:1], h.Activators[1:]
	for _, priority := range endpoints.Priorities {
		for _, e := range priority {
			if e.Hold != "" {
				return fail(fmt.Errorf("activator %s is itself behind hold %s", e.Name, e.Hold))
			}
		}
	}
	if out.Endpoints, err = ClusterLoadAssignment(endpoints); err != nil {
		return fail(err)
	}
	manager, err := holdManager(h.Name)
	if err != nil {
		return fail(err)
	}
	config, err := typed(manager)
	if err != nil {
		return fail(err)
	}
	out.Listener, err = check("hold "+h.Name, &listenerv3.Listener{
		Name:                          holdListener(h.Name),
		StatPrefix:                    "hold",
		ListenerSpecifier:             &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		PerConnectionBufferLimitBytes: count(downstreamBuffer),
		FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{
				Name:       "envoy.filters.network.http_connection_manager",
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config},
			}},
		}},
	})
	if err != nil {
		return fail(err)
	}
	return out, nil
}

func holdListener(hold string) string { return "hold/" + hold }
func holdCluster(hold string) string  { return "activator/" + hold }

// holdManager bounds nothing that the listener which the request came to has bounded,
// and changes no header.
func holdManager(hold string) (*hcmv3.HttpConnectionManager, error) {
	router, err := typed(&routerv3.Router{SuppressEnvoyHeaders: true})
	if err != nil {
		return nil, err
	}
	policies, err := newRetryPolicies()
	if err != nil {
		return nil, err
	}
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "hold",
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: holdListener(hold),
			VirtualHosts: []*routev3.VirtualHost{{
				Name: "all", Domains: []string{"*"},
				RequestBodyBufferLimit: wrapperspb.UInt64(retryBodyBytes),
				Routes: []*routev3.Route{{
					Match: match(ir.Match{}),
					Action: &routev3.Route_Route{Route: &routev3.RouteAction{
						ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: holdCluster(hold)},
						Timeout:          span(0),
						IdleTimeout:      span(0),
						RetryPolicy: &routev3.RetryPolicy{
							RetryOn:                       retryReset,
							NumRetries:                    count(holdRetries),
							RetryPriority:                 policies.priority,
							RetryHostPredicate:            policies.hosts,
							HostSelectionRetryMaxAttempts: holdHostSelections,
							RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
								BaseInterval: span(holdFirstBackOff), MaxInterval: span(holdBackOffAtMost),
							},
						},
					}},
				}},
			}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		StreamIdleTimeout:          span(0),
		MaxRequestHeadersKb:        count(MaxHeadersKiB + holdExtraHeaderKiB),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			MaxHeadersCount: count(MaxHeaders + holdExtraHeaderCount),
		},
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			InitialStreamWindowSize:     count(streamWindowHTTP2),
			InitialConnectionWindowSize: count(connectionWindowHTTP2),
		},
		SkipXffAppend:             true,
		GenerateRequestId:         wrapperspb.Bool(false),
		PreserveExternalRequestId: true,
	}, nil
}

// holdAddress is where an endpoint behind a hold is: inside the gateway.
func holdAddress(e ir.Endpoint) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: holdListener(e.Hold)},
	}}}
}

// internalListeners lets a gateway connect to its own listeners.
func internalListeners() (*corev3.TypedExtensionConfig, error) {
	return extension("envoy.bootstrap.internal_listener", &internalv3.InternalListener{})
}
