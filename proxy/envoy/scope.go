package envoy

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"ebb.dev/ebb/proxy/ir"
)

// Scopes encodes what finds a Route: one scope for each domain, in the order of
// the Route. A scope is loaded on demand: Envoy asks for the Route's configuration
// when the first request for one of its domains arrives.
func Scopes(r ir.Route) ([]*routev3.ScopedRouteConfiguration, error) {
	n := 0
	for i := range r.Hosts {
		n += len(r.Hosts[i].Domains)
	}
	scopes := make([]*routev3.ScopedRouteConfiguration, 0, n)
	for i := range r.Hosts {
		for _, d := range r.Hosts[i].Domains {
			if d.Audience != ir.External && d.Audience != ir.Internal {
				return nil, fmt.Errorf("%s: host %q: audience %q: external or internal is needed", who(r.Owner, r.Name), d.Host, d.Audience)
			}
			scope, err := check(who(r.Owner, r.Name)+": host "+d.Host, &routev3.ScopedRouteConfiguration{
				Name:                   ScopeName(r.Name, d),
				OnDemand:               true,
				RouteConfigurationName: r.Name,
				Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{
					fragment(string(d.Audience)), fragment(d.Host),
				}},
			})
			if err != nil {
				return nil, err
			}
			scopes = append(scopes, scope)
		}
	}
	return scopes, nil
}

// ScopeName is the name of the scope of one domain of a Route:
// <route>/<audience>/<host>.
func ScopeName(route string, d ir.Domain) string {
	return route + "/" + string(d.Audience) + "/" + d.Host
}

func fragment(value string) *routev3.ScopedRouteConfiguration_Key_Fragment {
	return &routev3.ScopedRouteConfiguration_Key_Fragment{
		Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: value},
	}
}
