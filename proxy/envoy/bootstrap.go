package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

// GatewayCluster is the node.cluster of a gateway: how the control plane knows it.
const GatewayCluster = "ebb-gateway"

// controllerCluster is the gateway's name for the control plane.
const controllerCluster = "ebb-controller"

// Reconnecting: Envoy's own first step is half a second.
const (
	reconnectFirst     = 50 * time.Millisecond
	reconnectAtMost    = 500 * time.Millisecond
	controllerConnect  = time.Second
	controllerPing     = 10 * time.Second
	controllerPingWait = 5 * time.Second
	controllerDNS      = time.Second // replicas that come are found as soon
)

// BootstrapConfig is what a gateway has to be told before it can ask.
type BootstrapConfig struct {
	NodeID     string // unique among the gateways
	Controller string // host:port of the control plane's gRPC listener; several, with commas between them, of which one leads
	// Admin is where Envoy's own interface listens: a loopback "ip:port" (port 0 picks
	// one) or "unix:<path>". Empty: nowhere.
	Admin string
	// Metrics is where GET /metrics and GET /ready are answered, and nothing else of the admin
	// interface: an "ip:port" that other machines may reach. Empty: nowhere. It needs Admin, with a port.
	Metrics  string
	TLS      *BootstrapTLS // nil: plain text
	Overload OverloadLimits
}

// BootstrapTLS are the PEM files of mutual TLS with the control plane. They are read again when
// something in their folders is replaced.
type BootstrapTLS struct {
	CertFile, KeyFile, CAFile string
	// Folder, absolute, is where the gateway finds what [BootstrapFiles] gives.
	Folder string
	// Controller is the URI that the control plane's certificate must have.
	Controller string
}

// Bootstrap makes the YAML file a gateway is started with. All else it learns from
// the control plane, to which it also reports its load.
func Bootstrap(c BootstrapConfig) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("bootstrap of gateway %q: %w", c.NodeID, err) }
	if c.NodeID == "" {
		return fail(errors.New("the node id is empty: give each gateway a name"))
	}
	controller, err := controllerUpstream(c)
	if err != nil {
		return fail(err)
	}
	admin, err := adminAddress(c.Admin)
	if err != nil {
		return fail(err)
	}
	internal, err := internalListeners()
	if err != nil {
		return fail(err)
	}
	overload, err := overloadManager(c.Overload)
	if err != nil {
		return fail(err)
	}
	bootstrap := &bootstrapv3.Bootstrap{
		OverloadManager:     overload,
		BootstrapExtensions: []*corev3.TypedExtensionConfig{internal},
		Node:                &corev3.Node{Id: c.NodeID, Cluster: GatewayCluster},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			CdsConfig: fromADS(),
			LdsConfig: fromADS(),
			AdsConfig: &corev3.ApiConfigSource{
				ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
				TransportApiVersion:       corev3.ApiVersion_V3,
				SetNodeOnFirstMessageOnly: true,
				GrpcServices:              []*corev3.GrpcService{controllerService()},
			},
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{controller}},
		ClusterManager: &bootstrapv3.ClusterManager{LoadStatsConfig: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices:              []*corev3.GrpcService{controllerService()},
		}},
		StatsConfig: statsConfig(),
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name:           "admin", // what an operator sets by hand while looking for a fault
			LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{}},
		}}},
	}
	if admin != nil {
		// Whoever looks at an overloaded gateway, or drains it, is let in.
		bootstrap.Admin = &bootstrapv3.Admin{Address: admin, IgnoreGlobalConnLimit: true}
	}
	if c.Metrics != "" {
		if err := addMetrics(bootstrap, c.Metrics, admin); err != nil {
			return fail(err)
		}
	}
	if err := bootstrap.ValidateAll(); err != nil {
		return fail(err)
	}
	return renderYAML(bootstrap)
}

func controllerService() *corev3.GrpcService {
	return &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
		ClusterName: controllerCluster,
		RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
			BaseInterval: span(reconnectFirst), MaxInterval: span(reconnectAtMost),
		}},
	}}}
}

// controllerUpstream is all replicas of the control plane. Only the one that leads listens, so a connection is refused
// at once by the others, and the next attempt goes to the next.
func controllerUpstream(c BootstrapConfig) (*clusterv3.Cluster, error) {
	kind := clusterv3.Cluster_STATIC
	var replicas []*endpointv3.LbEndpoint
	for _, one := range strings.Split(c.Controller, ",") {
		host, portText, err := net.SplitHostPort(strings.TrimSpace(one))
		if err != nil {
			return nil, fmt.Errorf("controller %q: host:port is needed: %w", one, err)
		}
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || host == "" || port == 0 {
			return nil, fmt.Errorf("controller %q: host:port is needed", one)
		}
		if _, err := netip.ParseAddr(host); err != nil {
			kind = clusterv3.Cluster_STRICT_DNS
		}
		replicas = append(replicas, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address:       host,
				PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
			}}},
		}}})
	}
	options, err := typed(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
						// A control plane that vanished without a word is noticed.
						ConnectionKeepalive: &corev3.KeepaliveSettings{
							Interval: span(controllerPing), Timeout: span(controllerPingWait),
						},
					},
				},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	cluster := &clusterv3.Cluster{
		Name:                          controllerCluster,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: kind},
		ConnectTimeout:                span(controllerConnect),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpProtocolOptions: options},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: controllerCluster,
			Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: replicas}},
		},
	}
	if kind == clusterv3.Cluster_STRICT_DNS {
		cluster.DnsRefreshRate = span(controllerDNS) //nolint:staticcheck // its successor needs another extension of Envoy for the same one number
	}
	if c.TLS != nil {
		if cluster.TransportSocket, err = controllerTLS(*c.TLS); err != nil {
			return nil, err
		}
	}
	return cluster, nil
}

func controllerTLS(t BootstrapTLS) (*corev3.TransportSocket, error) {
	if t.CertFile == "" || t.KeyFile == "" || t.CAFile == "" {
		return nil, errors.New("tls: a certificate, its key and the CA's certificate are needed")
	}
	if !filepath.IsAbs(t.Folder) || t.Controller == "" {
		return nil, fmt.Errorf("tls: folder %q must be absolute, and the control plane's URI %q is needed", t.Folder, t.Controller)
	}
	return mutualTLS(t.Controller, []string{"h2"}, fromFile(t.Folder, identityFile), fromFile(t.Folder, authoritiesFile))
}

func adminAddress(admin string) (*corev3.Address, error) {
	if admin == "" {
		return nil, nil
	}
	if path, ok := strings.CutPrefix(admin, "unix:"); ok {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path, Mode: 0o600}}}, nil
	}
	a, err := netip.ParseAddrPort(admin)
	if err != nil {
		return nil, fmt.Errorf("admin %q: ip:port or unix:<path> is needed: %w", admin, err)
	}
	if !a.Addr().IsLoopback() {
		return nil, fmt.Errorf("admin %q: whoever reaches it can stop the gateway: a loopback address or unix:<path> is needed", admin)
	}
	return address(a), nil
}

// renderYAML goes by way of JSON, whose white space protojson varies on purpose.
func renderYAML(m *bootstrapv3.Bootstrap) ([]byte, error) {
	encoded, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the bootstrap: %w", err)
	}
	return yaml.JSONToYAML(encoded)
}
