package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/xds"
)

// control is the server that gateways and activators talk to: discovery, load reports,
// draining. It listens while this replica leads; the discovery server itself holds its streams until
// the configuration is complete.
type control struct {
	address string
	server  *grpc.Server
	log     *slog.Logger
	open    atomic.Bool // listens
}

func (c *control) NeedLeaderElection() bool { return true }

func (c *control) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.address)
	if err != nil {
		return fmt.Errorf("--xds-listen: %w", err)
	}
	go func() {
		<-ctx.Done()
		c.server.Stop()
	}()
	c.open.Store(true)
	defer c.open.Store(false)
	c.log.Info("serving gateways and activators", "address", listener.Addr().String())
	return c.server.Serve(listener)
}

// missing answers a gateway that asks for what is gone: with a route configuration or a
// load assignment that is empty, so that a request that waits for it gets an answer and does not hang.
func missing(typeURL, name string) *xds.Resource {
	var empty proto.Message
	switch typeURL {
	case xds.RouteType:
		empty = &routev3.RouteConfiguration{Name: name}
	case xds.EndpointType:
		empty = &endpointv3.ClusterLoadAssignment{ClusterName: name}
	default:
		return nil
	}
	r, err := xds.NewResource(name, empty)
	if err != nil {
		return nil
	}
	return r
}
