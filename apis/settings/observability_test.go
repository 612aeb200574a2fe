package settings

import (
	"strings"
	"testing"
)

func TestObservability(t *testing.T) {
	if o := Default().Observability; o != (Observability{}) {
		t.Errorf("by default it is %+v, want nothing", o)
	}
	for name, test := range map[string]struct {
		data map[string]string
		want Observability
		url  string
		bad  string
	}{
		"requests":     {data: map[string]string{"logging.enable-request-log": "true"}, want: Observability{RequestLog: true}},
		"no endpoint":  {data: map[string]string{"tracing-protocol": "grpc"}, want: Observability{Tracing: Tracing{Protocol: TracingGRPC, Rate: 1}}},
		"off":          {data: map[string]string{"tracing-protocol": "none", "tracing-endpoint": "otel:4317"}},
		"grpc":         {data: map[string]string{"tracing-protocol": "grpc", "tracing-endpoint": "otel.obs:4317", "tracing-sampling-rate": "0.1"}, want: Observability{Tracing: Tracing{Protocol: TracingGRPC, Host: "otel.obs", Port: 4317, Rate: .1}}, url: "grpc://otel.obs:4317"},
		"default port": {data: map[string]string{"tracing-protocol": "grpc", "tracing-endpoint": "http://otel.obs"}, want: Observability{Tracing: Tracing{Protocol: TracingGRPC, Host: "otel.obs", Port: 4317, Rate: 1}}, url: "grpc://otel.obs:4317"},
		"http":         {data: map[string]string{"tracing-protocol": "http/protobuf", "tracing-endpoint": "http://[fd00::1]:4318/v1/x"}, want: Observability{Tracing: Tracing{Protocol: TracingHTTP, Host: "fd00::1", Port: 4318, Path: "/v1/x", Rate: 1}}, url: "http://[fd00::1]:4318/v1/x"},
		"http path":    {data: map[string]string{"tracing-protocol": "http/protobuf", "tracing-endpoint": "otel"}, want: Observability{Tracing: Tracing{Protocol: TracingHTTP, Host: "otel", Port: 4318, Path: "/v1/traces", Rate: 1}}, url: "http://otel:4318/v1/traces"},
		"tls":          {data: map[string]string{"tracing-protocol": "grpc", "tracing-endpoint": "https://otel:4317"}, bad: "only collectors without TLS"},
		"rate":         {data: map[string]string{"tracing-sampling-rate": "2"}, bad: "tracing-sampling-rate: 2 is outside 0..1"},
		"port":         {data: map[string]string{"tracing-protocol": "grpc", "tracing-endpoint": "otel:0"}, bad: `"0" is not a port`},
		"nonsense":     {data: map[string]string{"tracing-endpoint": "http://:1?x"}, bad: "is neither host:port nor"},
		"protocol":     {data: map[string]string{"tracing-protocol": "zipkin"}, bad: "is not one of none, grpc, http/protobuf"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Default().With(ConfigObservability, test.data)
			if test.bad != "" {
				if err == nil || !strings.Contains(err.Error(), test.bad) {
					t.Fatalf("the error is %v", err)
				}
				return
			}
			if err != nil || s.Observability != test.want || s.Observability.Tracing.URL() != test.url {
				t.Errorf("it is %+v (%s), %v", s.Observability, s.Observability.Tracing.URL(), err)
			}
		})
	}
}
