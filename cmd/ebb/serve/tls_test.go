package serve

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/backlog"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/trusttest"
	"ebb.dev/ebb/trust"
)

type nothing struct{}

func (nothing) Observe([]intake.Observation) {}

func (nothing) Backlog(string, backlog.Backlog) {}

// TestWhoMayAskWhat: on each call of the control plane, each role, and nobody at all: what is another role's is refused, whatever
// the node says that it is. Keys of users' certificates are for gateways alone.
func TestWhoMayAskWhat(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	ca := trusttest.New(t)
	own := ca.Files(t, t.TempDir(), trust.Controller)
	discoveryOptions, loadOptions := xds.Options{Logger: quiet}, intake.Options{Sink: nothing{}, Logger: quiet}
	identified(own, &discoveryOptions, &loadOptions)
	server := grpc.NewServer(append(xds.GRPCOptions(), serverOptions(own)...)...)
	discovery, loads := xds.New(discoveryOptions), intake.New(loadOptions)
	discovery.Register(server)
	discovery.Open()
	loads.Register(server)
	registry := members.New(members.Options{Logger: quiet})
	if err := registry.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	link.RegisterMembershipServer(server, registry)
	link.RegisterDrainServer(server, drainServer{service: &autoscaler.DrainService{}})
	backlog.New(backlog.Options{Sink: nothing{}}).Register(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { discovery.Close(); server.Stop() })

	connect := func(transport credentials.TransportCredentials) *grpc.ClientConn {
		t.Helper()
		c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(transport))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	as := func(role trust.Role) *grpc.ClientConn {
		return connect(credentials.NewTLS(trust.Client(ca.Files(t, t.TempDir(), role), trust.Controller)))
	}
	gateway, activator, eventing := as(trust.Gateway), as(trust.Activator), as(trust.Eventing)

	ask := func(node, typeURL string) func(*grpc.ClientConn) error {
		return func(c *grpc.ClientConn) error {
			s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c).DeltaAggregatedResources(t.Context())
			if err != nil {
				return err
			}
			// Wildcards are answered at once, with nothing; of the others a name that is not there is gone.
			_ = s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "n", Cluster: node}, TypeUrl: typeURL})
			if typeURL != xds.ClusterType && typeURL != xds.ListenerType {
				_ = s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: []string{"users.example.com"}})
			}
			_, err = s.Recv()
			return err
		}
	}
	report := func(node string) func(*grpc.ClientConn) error {
		return func(c *grpc.ClientConn) error {
			s, err := loadstatsv3.NewLoadReportingServiceClient(c).StreamLoadStats(t.Context())
			if err != nil {
				return err
			}
			_ = s.Send(&loadstatsv3.LoadStatsRequest{Node: &corev3.Node{Id: "n", Cluster: node}, ClusterStats: []*endpointv3.ClusterStats{{ClusterName: "c"}}})
			_, err = s.Recv()
			return err
		}
	}
	join := func(c *grpc.ClientConn) error {
		s, err := link.NewMembershipClient(c).Join(t.Context())
		if err != nil {
			return err
		}
		_ = s.Send(&link.FromActivator{Hello: &link.Hello{Name: "a", Process: "p", Address: "127.0.0.1:1"}, Told: true})
		_, err = s.Recv()
		return err
	}
	old := func(c *grpc.ClientConn) error {
		s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c).StreamAggregatedResources(t.Context())
		if err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	tell := func(c *grpc.ClientConn) error {
		s, err := link.NewBacklogClient(c).Tell(t.Context())
		if err != nil {
			return err
		}
		_ = s.Send(&link.FromEventing{Process: "p", Told: true})
		_, err = s.Recv()
		return err
	}
	const refused = codes.PermissionDenied
	for _, test := range []struct {
		what string
		call func(*grpc.ClientConn) error
		from *grpc.ClientConn
		want codes.Code
	}{
		{"a gateway asks for clusters", ask("ebb-gateway", xds.ClusterType), gateway, codes.OK},
		{"a gateway asks for a certificate", ask("ebb-gateway", xds.SecretType), gateway, codes.OK},
		{"an activator asks for a Revision", ask("ebb-activator", link.RevisionType), activator, codes.OK},
		{"an activator asks for clusters", ask("ebb-activator", xds.ClusterType), activator, refused},
		{"an activator asks for a certificate", ask("ebb-activator", xds.SecretType), activator, refused},
		{"an activator that says it is a gateway asks for a certificate", ask("ebb-gateway", xds.SecretType), activator, refused},
		{"an activator that says it is something else", ask("other", xds.SecretType), activator, refused},
		{"an activator that says nothing", ask("", link.RevisionType), activator, refused},
		{"a gateway that says it is an activator", ask("ebb-activator", link.RevisionType), gateway, refused},
		{"a gateway asks for a Revision", ask("ebb-gateway", link.RevisionType), gateway, refused},
		{"a gateway reports load", report("ebb-gateway"), gateway, codes.OK},
		{"an activator reports load", report("ebb-activator"), activator, codes.OK},
		{"an activator reports a gateway's load", report("ebb-gateway"), activator, refused},
		{"a gateway reports an activator's load", report("ebb-activator"), gateway, refused},
		{"an activator joins", join, activator, codes.OK},
		{"a gateway joins as an activator", join, gateway, refused},
		{"a gateway asks whether a pod may end", func(c *grpc.ClientConn) error {
			_, err := link.NewDrainClient(c).Await(t.Context(), &link.AwaitRequest{})
			return err
		}, gateway, refused},
		{"the eventing part tells of backlogs", tell, eventing, codes.OK},
		{"an activator tells of backlogs", tell, activator, refused},
		{"a gateway tells of backlogs", tell, gateway, refused},
		{"the eventing part joins as an activator", join, eventing, refused},
		{"the eventing part asks for a certificate", ask("ebb-gateway", xds.SecretType), eventing, refused},
		{"the eventing part reports load", report("ebb-activator"), eventing, refused},
		{"a gateway uses a call that is nobody's", old, gateway, refused},
		{"a controller's certificate", ask("ebb-gateway", xds.ClusterType), as(trust.Controller), codes.Unavailable},
		{"a certificate without a role", ask("ebb-gateway", xds.ClusterType), as(""), codes.Unavailable},
		{"a gateway of others", ask("ebb-gateway", xds.ClusterType),
			connect(credentials.NewTLS(trust.Client(trusttest.New(t).Files(t, t.TempDir(), trust.Gateway), trust.Controller))), codes.Unavailable},
		{"plain text", ask("ebb-gateway", xds.ClusterType), connect(insecure.NewCredentials()), codes.Unavailable},
	} {
		if err := test.call(test.from); status.Code(err) != test.want {
			t.Errorf("%s: %v, want %s", test.what, err, test.want)
		}
	}
	for _, s := range discovery.Streams() {
		if s.Role == xds.Other {
			t.Errorf("a stream of an unknown role is open: %+v", s)
		}
	}
	for _, m := range registry.List() {
		if !strings.HasPrefix(m.Name, "a") {
			t.Errorf("joined: %+v", m)
		}
	}
}
