package translate

import (
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
)

// Limits is what one client may hold of a gateway.
func Limits(s *settings.Settings) ir.Limits {
	return ir.Limits{
		RequestHeaders: s.Gateway.RequestHeadersTimeout,
		Idle:           s.Gateway.ConnectionIdleTimeout,
		HeadersKiB:     uint32(s.Gateway.MaxRequestHeadersKB),
		Headers:        uint32(s.Gateway.MaxRequestHeaders),
		Streams:        uint32(s.Gateway.MaxConcurrentStreams),
	}
}
