package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"ebb.dev/ebb/proxy/ir"
)

// logFields are those of a line, in docs/observability.md. There is no header that may hold a
// secret among them, and no query.
var logFields = map[string]string{
	"time":              "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
	"listener":          "",
	"method":            "%REQ(:METHOD)%",
	"host":              "%REQ(:AUTHORITY)%",
	"path":              "%PATH(NQ)%",
	"protocol":          "%PROTOCOL%",
	"status":            "%RESPONSE_CODE%",
	"flags":             "%RESPONSE_FLAGS%",
	"details":           "%RESPONSE_CODE_DETAILS%",
	"duration_ms":       "%DURATION%",
	"upstream_ms":       "%RESPONSE_DURATION%",
	"request_bytes":     "%BYTES_RECEIVED%",
	"response_bytes":    "%BYTES_SENT%",
	"client":            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
	"user_agent":        "%REQ(USER-AGENT)%",
	"request_id":        "%REQ(X-REQUEST-ID)%",
	"trace_id":          "%TRACE_ID%",
	"revision":          "%UPSTREAM_CLUSTER%", // revision/<namespace>/<service>/<name>
	"upstream":          "%UPSTREAM_HOST%",
	"upstream_attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
	"grpc_status":       "%GRPC_STATUS_NUMBER%",
	"tls_name":          "%REQUESTED_SERVER_NAME%",
}

// observe adds what a listener notes of its requests beside counting them. A listener that notes
// nothing is left as it is.
func observe(m *hcmv3.HttpConnectionManager, l ir.Listener) error {
	if l.Log {
		log, err := accessLog(l.Name)
		if err != nil {
			return err
		}
		m.AccessLog = []*accesslogv3.AccessLog{log}
	}
	if l.Tracing != nil {
		return trace(m, *l.Tracing)
	}
	return nil
}

// accessLog writes a line of JSON for each request to the standard output.
func accessLog(listener string) (*accesslogv3.AccessLog, error) {
	fields := map[string]*structpb.Value{}
	for name, format := range logFields {
		if format != "" {
			fields[name] = structpb.NewStringValue(format)
		}
	}
	fields["listener"] = structpb.NewStringValue(listener)
	config, err := typed(&streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{
		LogFormat: &corev3.SubstitutionFormatString{
			Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: fields}},
			OmitEmptyValues: true,
		},
	}})
	if err != nil {
		return nil, err
	}
	return &accesslogv3.AccessLog{Name: "requests", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: config}}, nil
}
