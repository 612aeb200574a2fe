package envoy

import (
	"fmt"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"ebb.dev/ebb/proxy/ir"
)

// RouteConfiguration encodes one Route.
//
// A rule becomes consecutive routes: one for each backend and each group of methods
// that is retried alike. Envoy draws one random number for a request and compares
// it with every runtime_fraction on the way, so the fractions of a rule's backends
// are cumulative, and the last backend has none. Each backend is a route of its own, and
// not an entry of weighted_clusters, because timeouts belong to routes.
func RouteConfiguration(r ir.Route) (*routev3.RouteConfiguration, error) {
	policies, err := newRetryPolicies()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who(r.Owner, r.Name), err)
	}
	filters, err := loadedFilters()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who(r.Owner, r.Name), err)
	}
	config := &routev3.RouteConfiguration{
		Name:                 r.Name,
		TypedPerFilterConfig: filters,
		VirtualHosts:         make([]*routev3.VirtualHost, 0, len(r.Hosts)),
		// The host goes on to the pod with the port it was called with.
		IgnorePortInHostMatching: true,
	}
	for _, h := range r.Hosts {
		host, err := virtualHost(h, policies)
		if err != nil {
			return nil, fmt.Errorf("%s: host %s: %w", who(r.Owner, r.Name), h.Name, err)
		}
		config.VirtualHosts = append(config.VirtualHosts, host)
	}
	return check(who(r.Owner, r.Name), config)
}

func virtualHost(h ir.VirtualHost, policies *retryPolicies) (*routev3.VirtualHost, error) {
	host := &routev3.VirtualHost{
		Name:                   h.Name,
		Domains:                make([]string, 0, len(h.Domains)),
		RetryPolicy:            policies.policy(false, 0),
		RequestBodyBufferLimit: wrapperspb.UInt64(retryBodyBytes),
	}
	for _, d := range h.Domains {
		host.Domains = append(host.Domains, d.Host)
	}
	slices.Sort(host.Domains)
	host.Domains = slices.Compact(host.Domains) // one host may be there for both audiences
	for i, rule := range h.Rules {
		routes, err := ruleRoutes(rule, policies)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		host.Routes = append(host.Routes, routes...)
	}
	return host, nil
}

func ruleRoutes(rule ir.Rule, policies *retryPolicies) ([]*routev3.Route, error) {
	switch {
	case rule.Redirect != nil:
		redirect, err := redirection(*rule.Redirect)
		if err != nil {
			return nil, err
		}
		return []*routev3.Route{{Match: match(rule.Match), Action: &routev3.Route_Redirect{Redirect: redirect}}}, nil
	case len(rule.Backends) == 0:
		return []*routev3.Route{{
			Match:  match(rule.Match),
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 404}},
		}}, nil
	}
	return weighted(rule, policies)
}

// weighted makes the routes of a rule's backends. Those for a group of methods come
// together, groups that name their methods before the rest.
func weighted(rule ir.Rule, policies *retryPolicies) ([]*routev3.Route, error) {
	total := uint32(0)
	last := -1
	for i, b := range rule.Backends {
		total += b.Weight
		if b.Weight > 0 {
			last = i
		}
	}
	if total != 100 {
		return nil, fmt.Errorf("the weights of the backends sum to %d, not to 100", total)
	}
	var routes []*routev3.Route
	for i, b := range rule.Backends {
		if b.Weight == 0 {
			continue
		}
		below := upTo(rule.Backends, i)
		headers := append(setHeaders(rule.Headers, b.Headers), setHeader(ir.RevisionHeader, b.Cluster))
		for _, class := range classes(b) {
			m := match(rule.Match)
			if i != last {
				m.RuntimeFraction = &corev3.RuntimeFractionalPercent{
					DefaultValue: &typev3.FractionalPercent{Numerator: below},
				}
			}
			if class.methods != "" {
				m.Headers = append(m.Headers, methodMatch(class.methods))
			}
			set := headers
			if class.methods == idempotentMethods {
				set = append(slices.Clip(headers), setHeader(ir.RepeatableHeader, "1"))
			}
			routes = append(routes, &routev3.Route{
				Match:               m,
				RequestHeadersToAdd: set,
				Action:              &routev3.Route_Route{Route: action(b, class, policies)},
			})
		}
	}
	return routes, nil
}

// upTo is the sum of the weights of the backends up to and with the i-th.
func upTo(backends []ir.Backend, i int) uint32 {
	sum := uint32(0)
	for _, b := range backends[:i+1] {
		sum += b.Weight
	}
	return sum
}

// action sends to one backend. Both timeouts are always there: without them Envoy
// takes 15 seconds and the listener's idle timeout; zero is no bound.
func action(b ir.Backend, class methodClass, policies *retryPolicies) *routev3.RouteAction {
	a := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: b.Cluster},
		Timeout:          span(b.Timeouts.Request),
		IdleTimeout:      span(b.Timeouts.Idle),
	}
	if bound := perTry(b.Timeouts); class.reset || bound > 0 {
		a.RetryPolicy = policies.policy(class.reset, bound)
	}
	return a
}

func match(m ir.Match) *routev3.RouteMatch {
	prefix := m.PathPrefix
	if prefix == "" {
		prefix = "/"
	}
	encoded := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}}
	// Both are set by the gateway itself, over what the client sent.
	if m.Audience != "" {
		encoded.Headers = append(encoded.Headers, exactly(ir.AudienceHeader, string(m.Audience)))
	}
	if m.Scheme != "" {
		encoded.Headers = append(encoded.Headers, exactly("x-forwarded-proto", m.Scheme))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if value := m.Headers[name]; value != "" {
			encoded.Headers = append(encoded.Headers, exactly(name, value))
			continue
		}
		encoded.Headers = append(encoded.Headers, &routev3.HeaderMatcher{
			Name:                 name,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		})
	}
	return encoded
}

func exactly(name, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value},
		}},
	}
}

func redirection(r ir.Redirect) (*routev3.RedirectAction, error) {
	encoded := &routev3.RedirectAction{}
	switch r.Status {
	case 0, 301:
		encoded.ResponseCode = routev3.RedirectAction_MOVED_PERMANENTLY
	case 302:
		encoded.ResponseCode = routev3.RedirectAction_FOUND
	case 307:
		encoded.ResponseCode = routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		encoded.ResponseCode = routev3.RedirectAction_PERMANENT_REDIRECT
	default:
		return nil, fmt.Errorf("redirect status %d: 301, 302, 307 or 308 is needed", r.Status)
	}
	if r.HTTPS {
		encoded.SchemeRewriteSpecifier = &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true}
	}
	encoded.PortRedirect = r.Port
	return encoded, nil
}
