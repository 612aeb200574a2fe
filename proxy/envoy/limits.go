package envoy

import (
	"cmp"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"ebb.dev/ebb/proxy/ir"
)

// Bounds of what one client may hold of a gateway, where [ir.Limits] says nothing.
const (
	maxRequestHeadersKiB  = 64
	maxRequestHeaders     = 200
	maxStreamsPerHTTP2    = 256
	requestHeadersTimeout = 30 * time.Second

	// Longer than load balancers keep an idle connection (600 s is the longest that is
	// common), so that it is not the gateway that closes one as a request arrives.
	downstreamIdle = 11 * time.Minute

	// An upload over a way of 50 ms gets 10 MB/s on one stream, and sixteen that nobody reads
	// do not yet stop the others of their connection.
	streamWindowHTTP2     = 512 << 10
	connectionWindowHTTP2 = 8 << 20

	// The same for answers: the way to a pod is short, and a connection carries many clients' streams.
	upstreamStreamWindow     = 256 << 10
	upstreamConnectionWindow = 64 << 20

	// What is kept for a peer that reads slowly, on each side. Bodies that may have to be sent again
	// have a bound of their own, see retryBodyBytes.
	downstreamBuffer = 256 << 10
	upstreamBuffer   = 256 << 10

	// Every route sets its own, see route.go. But the request that makes Envoy load a Route
	// was measured to stay under this one, so it must not cut what a Route allows; it
	// ends, late, a request whose Route never comes.
	streamIdleBeforeRoute = time.Hour
)

// The most that settings may ask for; what lies behind the first listener lets it pass.
const (
	MaxHeadersKiB = 512
	MaxHeaders    = 1000
)

// limit sets the bounds of one client. Paths, underscores and encodings are left as they are: nothing
// here decides by them, and applications see what the client sent.
func limit(m *hcmv3.HttpConnectionManager, l ir.Limits) {
	m.StreamIdleTimeout = span(streamIdleBeforeRoute)
	m.RequestHeadersTimeout = span(cmp.Or(l.RequestHeaders, requestHeadersTimeout))
	m.MaxRequestHeadersKb = count(cmp.Or(l.HeadersKiB, maxRequestHeadersKiB))
	m.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		IdleTimeout:     span(cmp.Or(l.Idle, downstreamIdle)),
		MaxHeadersCount: count(cmp.Or(l.Headers, maxRequestHeaders)),
	}
	m.Http2ProtocolOptions = &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:        count(cmp.Or(l.Streams, maxStreamsPerHTTP2)),
		InitialStreamWindowSize:     count(streamWindowHTTP2),
		InitialConnectionWindowSize: count(connectionWindowHTTP2),
	}
}
