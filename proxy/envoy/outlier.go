package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	failuresUntilEjected = 5
	ejection             = time.Second
	maxEjection          = 5 * time.Second

	// Every pod of a revision may be ejected, because an activator is behind them, but
	// never the last endpoint of a cluster: the activator of a revision at zero.
	maxEjectionPercent = 99
)

// outlierDetection takes an endpoint out for a while that cannot be reached or that
// breaks connections: every request that picks a dead node waits for the whole connect timeout
// before its retry, and one that must not run twice is lost in a pod that takes requests and dies.
// It counts failures in a row, with no answer in between, so that a busy application
// that resets a few streams, or ends websockets, is not one. Failures are not split by origin: split,
// a connection that is made counts as a success, and a pod that accepts and then breaks every one is never ejected.
func outlierDetection() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		ConsecutiveGatewayFailure:          count(failuresUntilEjected),
		EnforcingConsecutiveGatewayFailure: count(100),
		Interval:                           span(ejection),
		BaseEjectionTime:                   span(ejection),
		MaxEjectionTime:                    span(maxEjection),
		MaxEjectionPercent:                 count(maxEjectionPercent),
		AlwaysEjectOneHost:                 wrapperspb.Bool(false),
		EnforcingConsecutive_5Xx:           count(0),
		EnforcingSuccessRate:               count(0),
	}
}

// answersAreNoFailures: what an application answers is its own affair, a 503 too.
func answersAreNoFailures() *httpv3.HttpProtocolOptions_OutlierDetection {
	return &httpv3.HttpProtocolOptions_OutlierDetection{ErrorMatcher: &matcherv3.MatchPredicate{
		Rule: &matcherv3.MatchPredicate_NotMatch{NotMatch: &matcherv3.MatchPredicate{
			Rule: &matcherv3.MatchPredicate_AnyMatch{AnyMatch: true},
		}},
	}}
}
