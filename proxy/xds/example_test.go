package xds_test

import (
	"context"
	"fmt"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/grpc"

	"ebb.dev/ebb/proxy/xds"
)

// A publisher fills the world, opens the server, and follows what becomes of it.
func Example() {
	server := xds.New(xds.Options{})
	g := grpc.NewServer(xds.GRPCOptions()...)
	server.Register(g)

	cla, err := xds.NewResource("rev/default/hello", &endpoint.ClusterLoadAssignment{ClusterName: "rev/default/hello"})
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := xds.NewResource("rev/default/hello", &cluster.Cluster{Name: "rev/default/hello"},
		xds.AsLazy(), xds.WithNeeds(cla.Key), xds.WithOwner("revision default/hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	server.Update([]*xds.Resource{c, cla}, nil)
	server.Open()

	// Nobody is connected: nobody has an older version.
	fmt.Println(server.AwaitAcked(context.Background(), c.Key))
	fmt.Println(server.State("revision default/hello").Gateways, "gateways")
	// Output:
	// <nil>
	// 0 gateways
}
