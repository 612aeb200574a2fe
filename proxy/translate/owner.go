package translate

import (
	"fmt"
	"net/netip"

	"ebb.dev/ebb/proxy/ir"
)

// Kinds at the start of an [ir.Owner] made here.
const (
	RouteKind         = "Route"
	RevisionKind      = "Revision"
	DomainMappingKind = "DomainMapping"
)

// RouteOwner says that a value came from a Route.
func RouteOwner(namespace, name string) ir.Owner {
	return ir.Owner(RouteKind + "/" + namespace + "/" + name)
}

// RevisionOwner says that a value came from a Revision.
func RevisionOwner(namespace, name string) ir.Owner {
	return ir.Owner(RevisionKind + "/" + namespace + "/" + name)
}

// DomainMappingOwner says that a value came from a DomainMapping.
func DomainMappingOwner(namespace, name string) ir.Owner {
	return ir.Owner(DomainMappingKind + "/" + namespace + "/" + name)
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

// Listeners are the listeners of a gateway: for callers outside without and with TLS, and
// for those inside. An address that is not valid leaves its listener out.
func Listeners(external, secure, internal netip.AddrPort) []ir.Listener {
	var listeners []ir.Listener
	if external.IsValid() {
		listeners = append(listeners, ir.Listener{Name: "external", Address: external, Audience: ir.External})
	}
	if secure.IsValid() {
		listeners = append(listeners, ir.Listener{Name: "external-https", Address: secure, Audience: ir.External, TLS: true})
	}
	if internal.IsValid() {
		listeners = append(listeners, ir.Listener{Name: "internal", Address: internal, Audience: ir.Internal})
	}
	return listeners
}
