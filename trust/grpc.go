package trust

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Peer is the role of the peer that a gRPC call came from.
func Peer(ctx context.Context) (Role, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("the call has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return "", errors.New("the peer presented no certificate")
	}
	return RoleOf(info.State.VerifiedChains[0][0])
}

// Authorize are options of a gRPC server with TLS whose methods, by full name as
// /package.Service/Method, are for some roles each. What is not listed is for nobody.
func Authorize(methods map[string][]Role) []grpc.ServerOption {
	check := func(ctx context.Context, method string) error {
		role, err := Peer(ctx)
		if err != nil {
			return status.Error(codes.Unauthenticated, err.Error())
		}
		if !slices.Contains(methods[method], role) {
			return status.Errorf(codes.PermissionDenied, "%s is not for the role %s", method, role)
		}
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := check(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handle(server, stream)
		}),
	}
}
