package settings

import "time"

// Gateway is config-ebb-gateway: what one client may hold of a gateway. Zero is the gateway's own default.
type Gateway struct {
	// RequestHeadersTimeout is how long a request's headers may take, from their first byte.
	RequestHeadersTimeout time.Duration
	// ConnectionIdleTimeout is how long a connection may be without a request.
	ConnectionIdleTimeout time.Duration
	// MaxRequestHeadersKB and MaxRequestHeaders bound the headers of one request.
	MaxRequestHeadersKB, MaxRequestHeaders int64
	// MaxConcurrentStreams of one HTTP/2 connection.
	MaxConcurrentStreams int64
}

func parseGateway(p *parser) Gateway {
	var g Gateway
	p.duration("request-headers-timeout", &g.RequestHeadersTimeout, time.Second, time.Hour)
	p.duration("connection-idle-timeout", &g.ConnectionIdleTimeout, time.Second, 24*time.Hour)
	p.integer("max-request-headers-kb", &g.MaxRequestHeadersKB, 8, 512)
	p.integer("max-request-headers", &g.MaxRequestHeaders, 50, 1000)
	p.integer("max-concurrent-streams", &g.MaxConcurrentStreams, 1, 10_000)
	return g
}
