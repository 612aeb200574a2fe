package envoy

import (
	"fmt"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	prevhostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prevprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"ebb.dev/ebb/proxy/ir"
)

const (
	// What never reached a pod: safe to send again whatever it is.
	retryUnsent = "connect-failure,reset-before-request,refused-stream"
	// Also a connection that broke before the response began, when the pod may have
	// seen the request: a pod that closes a kept-alive connection as a request arrives.
	retryReset = retryUnsent + ",reset"

	safeMethods       = "GET|HEAD|OPTIONS"
	idempotentMethods = "GET|HEAD|OPTIONS|PUT|DELETE|TRACE"

	retries            = 3
	retryFirstBackOff  = time.Millisecond
	retryBackOffAtMost = 25 * time.Millisecond

	// How much of a request's body is kept for another attempt.
	retryBodyBytes = 8 << 20
)

// methodClass is a group of methods that are retried alike.
type methodClass struct {
	methods string // a regular expression over the whole method; "" for all
	reset   bool   // also after a reset of a request that was sent
}

// classes says how the requests to a backend are retried, first match wins.
//
// Envoy treats a response that has not begun in time (a per-try timeout) as a reset and
// would begin again with the full time, up to retries times. So a backend with such a
// bound, and only such a backend, gives up retrying resets.
func classes(b ir.Backend) []methodClass {
	if perTry(b.Timeouts) > 0 {
		return []methodClass{{}}
	}
	if b.Retry == ir.RetryIdempotent {
		return []methodClass{{methods: idempotentMethods, reset: true}, {}}
	}
	return []methodClass{{methods: safeMethods, reset: true}, {}}
}

// perTry is the bound on the response's start where the request's own is not tighter.
func perTry(t ir.Timeouts) time.Duration {
	if t.ResponseStart > 0 && (t.Request == 0 || t.ResponseStart < t.Request) {
		return t.ResponseStart
	}
	return 0
}

// retryPolicies are encoded once for a route configuration and shared by its routes.
type retryPolicies struct {
	priority *routev3.RetryPolicy_RetryPriority
	hosts    []*routev3.RetryPolicy_RetryHostPredicate
	made     map[retryKey]*routev3.RetryPolicy
}

type retryKey struct {
	reset  bool
	perTry time.Duration
}

func newRetryPolicies() (*retryPolicies, error) {
	priority, err := typed(&prevprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 1})
	if err != nil {
		return nil, fmt.Errorf("retry priority: %w", err)
	}
	hosts, err := typed(&prevhostsv3.PreviousHostsPredicate{})
	if err != nil {
		return nil, fmt.Errorf("retry host predicate: %w", err)
	}
	return &retryPolicies{
		priority: &routev3.RetryPolicy_RetryPriority{
			Name:       "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: priority},
		},
		hosts: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: hosts},
		}},
		made: map[retryKey]*routev3.RetryPolicy{},
	}, nil
}

// policy never tries the same endpoint again, and goes to the activators when the
// pods fail. A zero perTry sets no bound on one attempt.
func (p *retryPolicies) policy(reset bool, perTry time.Duration) *routev3.RetryPolicy {
	key := retryKey{reset, perTry}
	if made, ok := p.made[key]; ok {
		return made
	}
	policy := &routev3.RetryPolicy{
		RetryOn:                       retryUnsent,
		NumRetries:                    count(retries),
		RetryPriority:                 p.priority,
		RetryHostPredicate:            p.hosts,
		HostSelectionRetryMaxAttempts: retries,
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: span(retryFirstBackOff),
			MaxInterval:  span(retryBackOffAtMost),
		},
	}
	if reset {
		policy.RetryOn = retryReset
	}
	if perTry > 0 {
		policy.PerTryTimeout = span(perTry)
	}
	p.made[key] = policy
	return policy
}

func methodMatch(methods string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: ":method",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: methods}},
		}},
	}
}
