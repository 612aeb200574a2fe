package ir

import "time"

// Limits bound what one client may hold of a proxy. A zero field is the encoder's own default.
type Limits struct {
	RequestHeaders time.Duration `json:",omitzero"` // until a request's headers are complete, from their first byte
	Idle           time.Duration `json:",omitzero"` // of a connection without a request
	HeadersKiB     uint32        `json:",omitzero"` // of one request's headers
	Headers        uint32        `json:",omitzero"` // of one request
	Streams        uint32        `json:",omitzero"` // at once on one HTTP/2 connection
}
