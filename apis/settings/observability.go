package settings

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Protocols of Tracing.
const (
	TracingNone = "none"
	TracingGRPC = "grpc"
	TracingHTTP = "http/protobuf"
)

// Observability is config-observability.
type Observability struct {
	// RequestLog lets gateways write a line of JSON for each request.
	RequestLog bool
	Tracing    Tracing
}

// Tracing is where spans go. The zero value is nowhere.
type Tracing struct {
	// Protocol of the collector: grpc or http/protobuf.
	Protocol string
	// Host and Port of the collector, without TLS.
	Host string
	Port uint16
	// Path that spans are posted to, with http/protobuf.
	Path string
	// Rate is the share of requests without a decision of their caller's that are traced, 0..1.
	Rate float64
}

// On says whether there is a collector.
func (t Tracing) On() bool { return t.Host != "" }

// URL of the collector; "" where there is none. Its scheme is grpc or http.
func (t Tracing) URL() string {
	if !t.On() {
		return ""
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))), Path: t.Path}
	if t.Protocol == TracingGRPC {
		u.Scheme, u.Path = "grpc", ""
	}
	return u.String()
}

func parseObservability(p *parser) Observability {
	o := Observability{Tracing: Tracing{Protocol: TracingNone, Rate: 1}}
	p.boolean("logging.enable-request-log", &o.RequestLog)
	p.oneOf("tracing-protocol", &o.Tracing.Protocol, []string{TracingNone, TracingGRPC, TracingHTTP})
	p.float("tracing-sampling-rate", &o.Tracing.Rate, 0, 1)
	endpoint := ""
	p.text("tracing-endpoint", &endpoint)
	if endpoint != "" {
		o.Tracing.parse(p, endpoint)
	}
	if o.Tracing.Protocol == TracingNone {
		o.Tracing = Tracing{}
	}
	p.accept("logging.enable-var-log-collection", "logging.revision-url-template", "logging.request-log-template", "logging.enable-probe-request-log",
		"metrics-protocol", "metrics-endpoint", "metrics-export-interval",
		"request-metrics-protocol", "request-metrics-endpoint", "request-metrics-export-interval", "runtime-profiling",
		"metrics.backend-destination", "metrics.request-metrics-backend-destination", "metrics.request-metrics-reporting-period-seconds", "metrics.reporting-period-seconds",
		"metrics.opencensus-address", "metrics.stackdriver-project-id", "metrics.allow-stackdriver-custom-metrics", "profiling.enable")
	return o
}

// parse takes host:port or http://host:port/path.
func (t *Tracing) parse(p *parser, endpoint string) {
	const key = "tracing-endpoint"
	text := endpoint
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(endpoint) > maxHost+64 {
		p.bad(key, "%q is neither host:port nor http://host:port/path", endpoint)
		return
	}
	if u.Scheme != "http" {
		p.bad(key, "%q has the scheme %s: only collectors without TLS are supported, http://host:port", endpoint, u.Scheme)
		return
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{TracingGRPC: "4317"}[t.Protocol]
		if port == "" {
			port = "4318"
		}
	}
	t.Host, t.Port, t.Path = u.Hostname(), p.port(key, port), u.Path
	if t.Path == "" && t.Protocol == TracingHTTP {
		t.Path = "/v1/traces"
	}
}
