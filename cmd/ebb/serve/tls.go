package serve

import (
	"context"
	"fmt"
	"log/slog"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/trust"
)

// tlsFiles are the files of one part, all three or none.
type tlsFiles struct{ cert, key, ca string }

func (f *tlsFiles) flags(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "tls-cert", "", "certificate `FILE` of this part; it is read again when it changes, as are the next two")
	flags.StringVar(&f.key, "tls-key", "", "private key `FILE` of this part")
	flags.StringVar(&f.ca, "tls-ca", "", "`FILE` with the authorities whose certificates the other parts must have")
}

func (f *tlsFiles) empty() bool { return *f == tlsFiles{} }

// source is nil, which is for plain text, when no file is given.
func (f *tlsFiles) source(log *slog.Logger) (trust.Source, error) {
	if f.empty() {
		return nil, nil
	}
	files := &trust.Files{Certificate: f.cert, Key: f.key, Authorities: f.ca, Logger: log}
	if err := files.Check(); err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key, --tls-ca: %w", err)
	}
	return files, nil
}

// calls says which role may make which call to the control plane. Of discovery, who may ask
// for what is in [mayAsk].
func calls() map[string][]trust.Role {
	both, activators := []trust.Role{trust.Gateway, trust.Activator}, []trust.Role{trust.Activator}
	return map[string][]trust.Role{
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName: both,
		loadstatsv3.LoadReportingService_StreamLoadStats_FullMethodName:                both,
		link.Membership_Join_FullMethodName:                                            activators,
		link.Drain_Await_FullMethodName:                                                activators,
		link.Backlog_Tell_FullMethodName:                                               {trust.Eventing},
	}
}

// serverOptions are TLS and who may do what; none without a source.
func serverOptions(source trust.Source) []grpc.ServerOption {
	if source == nil {
		return nil
	}
	transport := credentials.NewTLS(trust.Server(source, []string{"h2"}, trust.Gateway, trust.Activator, trust.Eventing))
	return append(trust.Authorize(calls()), grpc.Creds(transport))
}

// identified makes the roles of discovery and of load reports those of certificates, and refuses a node that says it
// is something else.
func identified(source trust.Source, discovery *xds.Options, loads *intake.Options) {
	if source == nil {
		return
	}
	discovery.Identify = func(ctx context.Context, n *corev3.Node) (xds.Role, error) {
		role := xds.DefaultRole(n)
		return role, is(ctx, trust.Role(role))
	}
	discovery.MayAsk = mayAsk
	loads.Identify = func(ctx context.Context, k intake.Kind) error {
		if k == intake.Activator {
			return is(ctx, trust.Activator)
		}
		return is(ctx, trust.Gateway)
	}
}

// mayAsk: descriptions of Revisions are for activators, which get nothing else; all other resources, the keys of
// users' certificates among them, are for gateways.
func mayAsk(role xds.Role, typeURL string) bool {
	return (typeURL == link.RevisionType) == (role == xds.Activator)
}

func is(ctx context.Context, role trust.Role) error {
	has, err := trust.Peer(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if has != role {
		return status.Errorf(codes.PermissionDenied, "the peer says it is of the role %q, and its certificate is for %q", role, has)
	}
	return nil
}
