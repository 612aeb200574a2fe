package translate

import (
	"fmt"
	"net/netip"

	"ebb.dev/ebb/proxy/ir"
)

// Kinds at the start of an [ir.Owner] made here.
const (
	RouteKind    = "Route"
	RevisionKind = "Revision"
)

// RouteOwner says that a value came from a Route.
func RouteOwner(namespace, name string) ir.Owner {
	return ir.Owner(RouteKind + "/" + namespace + "/" + name)
}

// RevisionOwner says that a value came from a Revision.
func RevisionOwner(namespace, name string) ir.Owner {
	return ir.Owner(RevisionKind + "/" + namespace + "/" + name)
}

// MissingRevisionError means that a Route's traffic goes to a Revision that is not
// there, or not yet.
type MissingRevisionError struct {
	Route    string // <namespace>/<name>
	Revision string // name in the same namespace
}

func (e *MissingRevisionError) Error() string {
	return fmt.Sprintf("route %s: revision %s does not exist; wait for it or change the traffic", e.Route, e.Revision)
}

// Listeners are the two listeners of a gateway. An address that is not valid
// leaves its listener out.
func Listeners(external, internal netip.AddrPort) []ir.Listener {
	var listeners []ir.Listener
	if external.IsValid() {
		listeners = append(listeners, ir.Listener{Name: "external", Address: external, Audience: ir.External})
	}
	if internal.IsValid() {
		listeners = append(listeners, ir.Listener{Name: "internal", Address: internal, Audience: ir.Internal})
	}
	return listeners
}
