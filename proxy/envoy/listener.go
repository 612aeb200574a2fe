package envoy

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"ebb.dev/ebb/proxy/ir"
)

// A peer that vanished without a word is noticed after two minutes.
const (
	keepaliveTimeSeconds   = 60
	keepaliveEverySeconds  = 15
	keepaliveProbesAllowed = 4
)

// Listener encodes one listener. All listeners share one set of scopes, told
// apart by the audience that each of them stamps on its requests, so a host of another
// audience is 404 whatever headers a client sends.
func Listener(l ir.Listener) (*listenerv3.Listener, error) {
	fail := func(err error) (*listenerv3.Listener, error) {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	if l.Name == "" || !l.Address.IsValid() {
		return fail(fmt.Errorf("address %v: a name and an address with a port are needed", l.Address))
	}
	if l.Audience != ir.External && l.Audience != ir.Internal {
		return fail(fmt.Errorf("audience %q: external or internal is needed", l.Audience))
	}
	manager, err := connectionManager(l)
	if err != nil {
		return fail(err)
	}
	if err := observe(manager, l); err != nil {
		return fail(err)
	}
	config, err := typed(manager)
	if err != nil {
		return fail(err)
	}
	chain := &listenerv3.FilterChain{
		Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config},
		}},
	}
	if l.TLS {
		if chain.TransportSocket, err = serverTLS(); err != nil {
			return fail(err)
		}
		chain.TransportSocketConnectTimeout = span(handshakeTimeout)
	}
	return check("listener "+l.Name, &listenerv3.Listener{
		Name:                          l.Name,
		Address:                       address(l.Address),
		StatPrefix:                    l.Name,
		EnableReusePort:               yes(),
		PerConnectionBufferLimitBytes: count(downstreamBuffer),
		// A client that vanished without a word, in the middle of a websocket, say.
		TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime:     count(keepaliveTimeSeconds),
			KeepaliveInterval: count(keepaliveEverySeconds),
			KeepaliveProbes:   count(keepaliveProbesAllowed),
		},
		FilterChains: []*listenerv3.FilterChain{chain},
	})
}

func connectionManager(l ir.Listener) (*hcmv3.HttpConnectionManager, error) {
	early, err := earlyHeaders(l)
	if err != nil {
		return nil, err
	}
	filters, err := httpFilters()
	if err != nil {
		return nil, err
	}
	refusals, err := saysOverloaded()
	if err != nil {
		return nil, err
	}
	m := &hcmv3.HttpConnectionManager{
		StatPrefix:                    l.Name,
		CodecType:                     hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier:                &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: scopedRoutes()},
		HttpFilters:                   filters,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{early},
		UpgradeConfigs:                []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		StripTrailingHostDot:          true,
		ServerHeaderTransformation:    hcmv3.HttpConnectionManager_PASS_THROUGH,
		HttpProtocolOptions:           &corev3.Http1ProtocolOptions{EnableTrailers: true},
		// The peer is appended to X-Forwarded-For and X-Forwarded-Proto is the listener's.
		// There is no InternalAddressConfig: without one nobody is trusted for being on a
		// private address; an empty one was measured to trust the loopback.
		UseRemoteAddress: yes(),
		LocalReplyConfig: refusals,
		// Inside the cluster a request's id is kept, so that a chain of calls has one.
		PreserveExternalRequestId: l.Audience == ir.Internal,
	}
	limit(m, l.Limits)
	return m, nil
}

// scopedRoutes finds a Route by the audience and the host without its port. It is
// the same value on every listener, so that they share one subscription.
func scopedRoutes() *hcmv3.ScopedRoutes {
	header := func(name, separator string) *hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder {
		return &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{
			Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name:             name,
					ElementSeparator: separator,
					ExtractType:      &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{},
				},
			},
		}
	}
	return &hcmv3.ScopedRoutes{
		Name: "routes",
		ScopeKeyBuilder: &hcmv3.ScopedRoutes_ScopeKeyBuilder{
			Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{
				header(ir.AudienceHeader, ""), header(":authority", ":"),
			},
		},
		RdsConfigSource: fromADS(),
		ConfigSpecifier: &hcmv3.ScopedRoutes_ScopedRds{
			ScopedRds: &hcmv3.ScopedRds{ScopedRdsConfigSource: fromADS()},
		},
	}
}

// Filters of requests whose Route is not known, or not loaded yet.
const (
	lowerCaseFilter = "lower-case-host"
	onDemandFilter  = "envoy.filters.http.on_demand"
)

// httpFilters are the filters of every request, in order. A loaded Route switches the first two off, see
// [loadedFilters]: they are what costs most, and nothing is left for them to do.
func httpFilters() ([]*hcmv3.HttpFilter, error) {
	var filters []*hcmv3.HttpFilter
	for _, f := range []struct {
		name   string
		config validated
	}{
		{lowerCaseFilter, lowerCaseHost()},
		{onDemandFilter, &ondemandv3.OnDemand{}},
		{"envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}},
	} {
		config, err := typed(f.config)
		if err != nil {
			return nil, fmt.Errorf("filter %s: %w", f.name, err)
		}
		filters = append(filters, &hcmv3.HttpFilter{
			Name:       f.name,
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config},
		})
	}
	return filters, nil
}

// loadedFilters switches off, for the requests of a loaded Route, what finds and loads one:
// a host in other letters does not find it in the first place.
func loadedFilters() (map[string]*anypb.Any, error) {
	off, err := typed(&routev3.FilterConfig{Disabled: true})
	if err != nil {
		return nil, err
	}
	return map[string]*anypb.Any{lowerCaseFilter: off, onDemandFilter: off}, nil
}

// lowerCaseHost looks a Route up again by the host in small letters: scope keys are exact
// strings, host names are not.
func lowerCaseHost() *luav3.Lua {
	const script = `function envoy_on_request(handle)
  local headers = handle:headers()
  local host = headers:get(":authority")
  local lower = string.lower(host)
  if lower ~= host then
    headers:replace(":authority", lower)
    handle:clearRouteCache()
  end
end
`
	return &luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: script}},
	}
}
