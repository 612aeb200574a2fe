package link

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// Dial makes a connection to the replica of the control plane that leads. addresses is one HOST:PORT, or several with commas between them.
func Dial(addresses string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	target, replicas := controlTarget(addresses)
	return grpc.NewClient(target,
		grpc.WithResolvers(replicas...),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 30 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 300 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithDisableServiceConfig(),
	)
}

// controlTarget is how gRPC finds the replica of the control plane that leads, which alone listens: it
// goes through the addresses, without a pause between them, until one takes the connection. One address is a name
// that stands for all of them, or the only one.
func controlTarget(addresses string) (target string, resolvers []resolver.Builder) {
	all := strings.Split(addresses, ",")
	if len(all) == 1 {
		return addresses, nil
	}
	known := manual.NewBuilderWithScheme("replicas")
	var state resolver.State
	for _, a := range all {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: strings.TrimSpace(a)}}})
	}
	known.InitialState(state)
	return known.Scheme() + ":///control", []resolver.Builder{known}
}
