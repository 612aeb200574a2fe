package activator

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// streams answers every message of a two-way stream with one of the same size, and a one-way stream
// with the sum of the sizes; both end with a trailer, and with an error on an empty message.
type streams struct {
	testgrpc.UnimplementedTestServiceServer
}

func (streams) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	s.SetTrailer(metadata.Pairs("x-end", "two-way"))
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(m.GetPayload().GetBody()) == 0 {
			return grpcstatus.Error(codes.DataLoss, "an empty message")
		}
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

func (streams) StreamingInputCall(s testgrpc.TestService_StreamingInputCallServer) error {
	s.SetTrailer(metadata.Pairs("x-end", "one-way"))
	sum := 0
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(m.GetPayload().GetBody())
	}
}

// Streams of messages pass in both directions as they are sent, from zero, with trailers and errors.
func TestGRPCStreams(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	c.set(revisionOf())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, streams{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient(a.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := testgrpc.NewTestServiceClient(conn)
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), ir.RevisionHeader, testCluster))
	defer cancel()

	two, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	payload := func(n int) *testgrpc.Payload { return &testgrpc.Payload{Body: make([]byte, n)} }
	if err := two.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload(1)}); err != nil { // held
		t.Fatal(err)
	}
	spec := revisionOf(podOf(t, "p1", l.Addr()))
	spec.Protocol = link.Protocol_H2C
	c.set(spec)
	for _, n := range []int{1, 300_000, 7} { // each answer comes before the next message
		if n > 1 {
			if err := two.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload(n)}); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := two.Recv(); err != nil || len(m.GetPayload().GetBody()) != n {
			t.Fatalf("a message of %d bytes: %d came back, %v", n, len(m.GetPayload().GetBody()), err)
		}
	}
	_ = two.CloseSend()
	if _, err := two.Recv(); !errors.Is(err, io.EOF) || len(two.Trailer()["x-end"]) != 1 {
		t.Errorf("the end: %v, trailer %v", err, two.Trailer())
	}

	failing, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = failing.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload(0)})
	if _, err := failing.Recv(); grpcstatus.Code(err) != codes.DataLoss {
		t.Errorf("an error in the middle of a stream became %v", err)
	}

	one, err := client.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := one.Send(&testgrpc.StreamingInputCallRequest{Payload: payload(10_000)}); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := one.CloseAndRecv(); err != nil || m.GetAggregatedPayloadSize() != 1_000_000 || len(one.Trailer()["x-end"]) != 1 {
		t.Errorf("one-way: %v, %v, trailer %v", m, err, one.Trailer())
	}
	eventually(t, "all have ended", func() bool { return a.metrics.inProgress.Load() == 0 })
}
