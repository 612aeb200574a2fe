package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// echoService speaks the test protocol of gRPC itself, so that no other is needed: unary
// calls and streams send payloads back, the trailer x-revision names the revision, and
// a response status in a request becomes the call's.
type echoService struct {
	testgrpc.UnimplementedTestServiceServer
	app *app
}

func (s *echoService) trailer() metadata.MD { return metadata.Pairs("x-revision", s.app.revision) }

func (s *echoService) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	_ = grpc.SetTrailer(ctx, s.trailer())
	if wish := in.GetResponseStatus(); wish.GetCode() != 0 {
		return nil, status.Error(codes.Code(uint32(wish.GetCode())), wish.GetMessage())
	}
	return &testgrpc.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (s *echoService) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	stream.SetTrailer(s.trailer())
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if wish := in.GetResponseStatus(); wish.GetCode() != 0 {
			return status.Error(codes.Code(uint32(wish.GetCode())), wish.GetMessage())
		}
		for _, p := range in.GetResponseParameters() {
			select {
			case <-time.After(time.Duration(p.GetIntervalUs()) * time.Microsecond):
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}
