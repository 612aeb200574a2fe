package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"

	"ebb.dev/ebb/proxy/xds"
)

// control is the server that gateways and activators talk to: discovery, load reports,
// draining. It listens while this replica leads; the discovery server itself holds its streams until
// the configuration is complete.
type control struct {
	address string
	server  *grpc.Server
	log     *slog.Logger
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
	c.log.Info("serving gateways and activators", "address", listener.Addr().String())
	return c.server.Serve(listener)
}

// missing answers a gateway that asks for a route configuration that is gone: an empty one, so that
// a request that waits for it gets 404 and does not hang.
func missing(typeURL, name string) *xds.Resource {
	if typeURL != xds.RouteType {
		return nil
	}
	r, err := xds.NewResource(name, &routev3.RouteConfiguration{Name: name})
	if err != nil {
		return nil
	}
	return r
}
