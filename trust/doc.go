// Package trust is who the parts of the platform are to each other.
//
// A part proves its [Role] by a certificate with the role's URI in it, and believes the peers whose
// certificates its authorities have signed and that have a role it deals with: on no
// connection does a name of a host, or an address, decide. [Server] and [Client] make the TLS configurations
// of both ends from a [Source], which is asked at each handshake, so that a renewed certificate and another
// authority need no restart and end no connection. [Files] is the source of parts that find theirs in
// files, [Held] of those that are given them. On a gRPC server [Authorize] lets each role call what is its own.
//
// Who signs is no matter here: `ebb up` does (cmd/ebb/pki), and on a cluster the leading
// controller (controllers/credentials).
package trust
