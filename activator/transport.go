package activator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// dialError says that a connection could not be made: nothing of a request was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return "connect: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// newTransports returns what speaks HTTP/1.1 and HTTP/2 with prior knowledge to
// pods. They are two, so that neither negotiates, and they are shared by all revisions.
func newTransports(dialTimeout time.Duration) (http1, h2c *http.Transport) {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, &dialError{err}
		}
		return c, nil
	}
	http1 = &http.Transport{
		DialContext:         dial,
		MaxIdleConns:        0, // bounded by the requests held and by the time below
		MaxIdleConnsPerHost: 1000,
		// Shorter than the keep-alive of common servers (5 s), so that a pod seldom
		// closes a connection in the moment a request is sent on it.
		IdleConnTimeout:       4 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // bodies pass as they are
		ReadBufferSize:        4 << 10,
		WriteBufferSize:       4 << 10,
	}
	h2c = &http.Transport{
		DialContext:           dial,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		Protocols:             new(http.Protocols),
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	return http1, h2c
}
