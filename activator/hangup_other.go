//go:build !linux

package activator

import (
	"context"
	"net"
	"net/http"
)

// hangups is not implemented here: a client that leaves while its body was not read
// yet is noticed when a pod gets the request.
type hangups struct{}

func newHangups() (*hangups, error) { return &hangups{}, nil }

func (*hangups) watch(*http.Request) (left <-chan struct{}, stop func()) { return nil, func() {} }

func (*hangups) close() {}

func withConn(ctx context.Context, _ net.Conn) context.Context { return ctx }
