package publish_test

import (
	"net/netip"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/client-go/rest"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
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

// testLimits: changed settings reach gateways that are connected.
func testLimits(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 0)
	g := connect(t, w.publisher.Server())
	streams := func(name string) uint32 {
		var l listenerv3.Listener
		if err := proto.Unmarshal(g.resource(xds.ListenerType, name), &l); err != nil || len(l.GetFilterChains()) == 0 {
			return 0
		}
		return manager(t, &l).GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue()
	}
	g.wait("listeners", func() bool {
		return streams("external") > 0 && streams("external-https") > 0 && streams("internal") > 0
	})
	w.must(w.settings.Update(settings.ConfigGateway, map[string]string{"max-concurrent-streams": "11"}))
	g.wait("the new limit", func() bool {
		return streams("external") == 11 && streams("external-https") == 11 && streams("internal") == 11
	})
}

func manager(t *testing.T, l *listenerv3.Listener) *hcmv3.HttpConnectionManager {
	t.Helper()
	m := &hcmv3.HttpConnectionManager{}
	if err := l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	return m
}
