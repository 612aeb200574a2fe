package envoy

import (
	"maps"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"ebb.dev/ebb/proxy/ir"
)

// internalHeaders is the prefix of what only the platform itself may say.
const internalHeaders = "x-ebb-"

// forwarded is this hop's element of the Forwarded header (RFC 7239): the peer with
// its port, quoted, which is right for IPv4 and, in brackets, for IPv6 (section 6),
// and the host as it was asked for.
const forwarded = `for="%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%";host="%REQ(:AUTHORITY)%";proto=`

// earlyHeaders changes a request before anything looks at it: internal headers are
// dropped, then the audience is set and this hop added to Forwarded.
func earlyHeaders(l ir.Listener) (*corev3.TypedExtensionConfig, error) {
	proto := "http"
	if l.TLS {
		proto = "https"
	}
	return extension("headers", &earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
		{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: internalHeaders},
			},
		}}},
		{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: ir.AudienceHeader, Value: string(l.Audience)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}},
		{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "forwarded", Value: forwarded + proto},
			AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
		}}},
	}})
}

// setHeaders sets headers to fixed values, in the order of their names; of two maps
// the second wins.
func setHeaders(maps2 ...map[string]string) []*corev3.HeaderValueOption {
	merged := map[string]string{}
	for _, m := range maps2 {
		maps.Copy(merged, m)
	}
	options := make([]*corev3.HeaderValueOption, 0, len(merged)+1)
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		options = append(options, setHeader(name, merged[name]))
	}
	return options
}

// setHeader sets one header to a fixed value: a percent sign is itself here, not
// the start of a command.
func setHeader(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: strings.ReplaceAll(value, "%", "%%")},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
