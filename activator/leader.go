package activator

import (
	"strings"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

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
