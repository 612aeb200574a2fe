package ir

// Tracing is where a gateway sends spans.
type Tracing struct {
	// Host and Port of a collector that takes OTLP without TLS, over gRPC; over HTTP to Path where
	// that is set.
	Host string
	Port uint16
	Path string `json:",omitempty"`
	// Rate is the share of requests that are traced, 0..1, of those that bring no decision of
	// their caller's.
	Rate float64
}
