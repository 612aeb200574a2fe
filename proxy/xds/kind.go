package xds

// Type URLs that the server treats specially. All other types are subscribed by
// name, sent last, and removed by removed_resources.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	SecretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	ScopeType    = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// rule is all that the server knows about a type.
type rule struct {
	// order of sending within a push: make before break.
	order int
	// wildcard: an empty first subscription asks for all of the type, and
	// whoever needs a resource of it waits until it is usable on the stream.
	// The others are asked for by name, after what refers to them has arrived,
	// so nobody may wait for them.
	wildcard bool
	// sticky: Envoy acknowledges removed_resources of this type and ignores it.
	sticky bool
	// leaf: nothing of this type needs a wildcard type, so a version that this
	// server does not know holds nothing back.
	leaf bool
	// partial: of a rejected response, the resources that the message does not
	// name were applied. Where it is false they are sent again.
	partial bool
	// rearm: Envoy loads what a resource of this type leads to on demand, and forgets it
	// only with the resource, so that one is replaced by the next generation of itself; see
	// Server.TakeBack. Its messages have their name in field 1.
	rearm bool
	// evidence is the type whose acknowledgement shows that a resource of this
	// type is usable; it is sent again with every change of this one.
	evidence string
}

// rules is a function and not a variable so that nobody can change it.
func rules(typeURL string) rule {
	switch typeURL {
	case ClusterType:
		return rule{order: 0, wildcard: true, leaf: true, partial: true, evidence: EndpointType}
	case EndpointType:
		return rule{order: 1, sticky: true, leaf: true}
	case SecretType:
		// Not sticky: a gateway that asks for the certificate of a host that has none
		// is told so, and refuses the connection.
		return rule{order: 2, leaf: true}
	case ListenerType:
		return rule{order: 3, wildcard: true, partial: true}
	case ScopeType:
		return rule{order: 4, wildcard: true, rearm: true}
	case RouteType:
		return rule{order: 5, sticky: true}
	}
	return rule{order: 6}
}

// kind is one type in the world.
type kind struct {
	url string
	rule
	entries map[string]*entry
	wild    map[*stream]struct{} // streams with a wildcard subscription
	users   int                  // streams with any subscription
}

// entry is one name in the world: the current resource, if there is one, and
// the streams that have to do with it.
type entry struct {
	key     Key
	kind    *kind
	res     *Resource
	items   map[*stream]*item
	subs    int // streams subscribed by name
	waiters map[*waiter]struct{}
}
