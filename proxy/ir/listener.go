package ir

import "net/netip"

// Listener is one address that takes requests for one audience.
type Listener struct {
	Name     string // unique: "external", "external-https" or "internal"
	Address  netip.AddrPort
	Audience Audience
	TLS      bool   `json:",omitempty"` // ends TLS, with the [Certificate] of the host that the client asks for
	Limits   Limits `json:",omitzero"`

	Log     bool     `json:",omitempty"` // writes a line of JSON for each request
	Tracing *Tracing `json:",omitempty"` // nil: no spans
}

// Certificate is what one host of the listeners with TLS proves its name with.
type Certificate struct {
	Host  string // exact, lower case: the server name of the client's first message
	Owner Owner
	Chain []byte    // PEM, the host's own certificate first
	Key   SecretPEM // PEM
}

// SecretPEM is key material: it is never printed, whatever prints the value that holds it.
type SecretPEM []byte

// String hides the key.
func (SecretPEM) String() string { return "(hidden)" }

// GoString hides the key.
func (SecretPEM) GoString() string { return "(hidden)" }

// MarshalText hides the key in JSON and YAML.
func (SecretPEM) MarshalText() ([]byte, error) { return []byte("(hidden)"), nil }

// RevisionHeader carries the cluster's name to an activator: it is how an
// activator, which serves many revisions on one address, knows which one a request is for.
const RevisionHeader = "x-ebb-revision"

// RepeatableHeader tells an activator that a request may run twice although its method does not
// say so. Its value does not matter.
const RepeatableHeader = "x-ebb-repeatable"

// AudienceHeader is set by each listener on every request before routing, over
// whatever the client sent, and is part of the key that finds a Route.
const AudienceHeader = "x-ebb-audience"
