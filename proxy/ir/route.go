package ir

import "time"

// Owner names the object a value came from, as "<kind>/<namespace>/<name>". It is
// opaque below the translators; empty means the platform itself.
type Owner string

// Audience says who may call a host: a listener serves exactly one audience.
type Audience string

const (
	External Audience = "external" // callers outside the cluster
	Internal Audience = "internal" // callers inside the cluster
)

// Route is one unit of routing configuration: the hosts that share it and what
// happens to their requests. A gateway loads it when one of its hosts is first asked for.
type Route struct {
	Name  string // unique, never reused for another object: route/<namespace>/<name>/<uid>
	Owner Owner
	Hosts []VirtualHost // sorted by name; at least one
}

// VirtualHost is a group of domains with the same rules.
type VirtualHost struct {
	Name    string // unique in the Route: "main" or "tag/<tag>"
	Domains []Domain
	Rules   []Rule // first match wins
}

// Domain is one exact host name, lower case and without a port, for one audience.
type Domain struct {
	Host     string
	Audience Audience
}

// Rule says what to do with the requests that match.
type Rule struct {
	Match    Match
	Backends []Backend         // weights sum to 100; none means 404
	Redirect *Redirect         // instead of Backends
	Headers  map[string]string // set on the request
}

// Match selects requests; the zero value matches all.
type Match struct {
	PathPrefix string            // "" means "/"
	Headers    map[string]string // exact values, all must match; "" means present
	Scheme     string            `json:",omitempty"` // "http" or "https", as the client spoke to the gateway; "" means both
	Audience   Audience          `json:",omitempty"` // of the listener; "" means all
}

// Redirect answers with a redirection instead of forwarding.
type Redirect struct {
	HTTPS  bool
	Port   uint32 `json:",omitempty"` // of the new address; 0 for that of the old one, or the new scheme's own if that was the old scheme's
	Status int    // 301, 302, 307 or 308
}

// Backend is one share of a rule's requests.
type Backend struct {
	Cluster  string // a Cluster's name
	Weight   uint32 // percent, 0..100
	Timeouts Timeouts
	Retry    RetryScope
	Headers  map[string]string // set on requests that go to this backend
}

// Timeouts bound one request; zero means no bound.
type Timeouts struct {
	Request       time.Duration // until the response is complete, from the end of the request; upgrades are not cut
	ResponseStart time.Duration // until the response's headers
	Idle          time.Duration // without a byte in either direction
}

// RetryScope says which methods may be tried again after a reset that came when
// the request was already on its way. What never reached a pod is always retried.
type RetryScope string

const (
	RetrySafe       RetryScope = ""           // GET, HEAD, OPTIONS
	RetryIdempotent RetryScope = "idempotent" // also PUT, DELETE, TRACE
)
