package envoy_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/ir"
)

// TestGRPC calls a gRPC service in all ways: one answer, a stream, and an error,
// which travels in trailers.
func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := health.NewServer()
	service.SetServingStatus("a", grpc_health_v1.HealthCheckResponse_SERVING)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, service)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)

	const name = "rev/t/grpc/1"
	g := startGateway(t, []ir.VirtualHost{host("grpc", ir.Backend{
		Cluster: name, Weight: 100, Timeouts: ir.Timeouts{Request: time.Minute, ResponseStart: time.Minute},
	})}, cluster{name: name, protocol: ir.H2C, pods: pods(netip.MustParseAddrPort(l.Addr().String()))})

	c, err := grpc.NewClient("passthrough:///"+g.external.String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("grpc.test:8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := grpc_health_v1.NewHealthClient(c)
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "a"})
	if err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("check: %v, %v", answer, err)
	}
	if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "unknown"}); status.Code(err) != codes.NotFound {
		t.Errorf("check of what is not there: %v", err)
	}
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{
		grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_SERVING,
	} {
		service.SetServingStatus("a", want)
		for {
			got, err := watch.Recv()
			if err != nil {
				t.Fatalf("watch: wait for %v: %v", want, err)
			}
			if got.Status == want {
				break
			}
		}
	}
}
