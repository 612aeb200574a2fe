package ir

import "net/netip"

// Listener is one address that takes requests for one audience.
type Listener struct {
	Name     string // "external" or "internal"
	Address  netip.AddrPort
	Audience Audience
}

// RevisionHeader carries the cluster's name to an activator: it is how an
// activator, which serves many revisions on one address, knows which one a request is for.
const RevisionHeader = "x-ebb-revision"

// AudienceHeader is set by each listener on every request before routing, over
// whatever the client sent, and is part of the key that finds a Route.
const AudienceHeader = "x-ebb-audience"
