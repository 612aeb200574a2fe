package publish_test

import (
	"net/netip"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/translate"
)

// TestLimitsOfSettings: config-ebb-gateway reaches every listener.
func TestLimitsOfSettings(t *testing.T) {
	s, err := settings.Default().With(settings.ConfigGateway, map[string]string{
		"request-headers-timeout": "7s", "connection-idle-timeout": "9s",
		"max-request-headers-kb": "100", "max-request-headers": "300", "max-concurrent-streams": "11",
	})
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("127.0.0.1:80")
	for _, l := range translate.Listeners(at, at, at) {
		l.Limits = translate.Limits(s)
		made, err := envoy.Listener(l)
		if err != nil {
			t.Fatal(err)
		}
		m := manager(t, made)
		if got := m.GetRequestHeadersTimeout().AsDuration(); got != 7*time.Second {
			t.Errorf("%s: request headers timeout %v", l.Name, got)
		}
		if got := m.GetCommonHttpProtocolOptions().GetIdleTimeout().AsDuration(); got != 9*time.Second {
			t.Errorf("%s: idle timeout %v", l.Name, got)
		}
		if kb, n, streams := m.GetMaxRequestHeadersKb().GetValue(), m.GetCommonHttpProtocolOptions().GetMaxHeadersCount().GetValue(),
			m.GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue(); kb != 100 || n != 300 || streams != 11 {
			t.Errorf("%s: %d KiB, %d headers, %d streams", l.Name, kb, n, streams)
		}
	}
}

func manager(t *testing.T, l *listenerv3.Listener) *hcmv3.HttpConnectionManager {
	t.Helper()
	m := &hcmv3.HttpConnectionManager{}
	if err := l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	return m
}
