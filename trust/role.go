package trust

import (
	"crypto/x509"
	"fmt"
	"net/url"
)

// Role is what a part of the platform is.
type Role string

// Roles. Admission has none: the kube-apiserver goes by the name of a host.
const (
	Controller Role = "controller"
	Activator  Role = "activator"
	Gateway    Role = "gateway"
	Eventing   Role = "eventing" // ingress, dispatcher and controllers of events
	NATS       Role = "nats"     // the store of events
)

// domain is what the URIs of roles are under, a trust domain as SPIFFE has them.
const domain = "ebb.dev"

// URI is the role in a certificate: a subject alternative name of kind URI, spiffe://ebb.dev/ROLE.
func (r Role) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: domain, Path: "/" + string(r)}
}

// RoleOf reads the role of a certificate, which has exactly one URI.
func RoleOf(c *x509.Certificate) (Role, error) {
	if len(c.URIs) != 1 {
		return "", fmt.Errorf("the certificate of %q has %d URIs: one, which names a role, is needed", c.Subject.CommonName, len(c.URIs))
	}
	for _, r := range []Role{Controller, Activator, Gateway, Eventing, NATS} {
		if c.URIs[0].String() == r.URI().String() {
			return r, nil
		}
	}
	return "", fmt.Errorf("the certificate's URI %q names no role", c.URIs[0])
}
