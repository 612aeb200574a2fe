// Package gateway runs one gateway: it says what Envoy may use of the machine, writes the
// bootstrap, keeps Envoy running, and ends it without a failed request.
//
// `ebb gateway` is the whole of it, for a cluster; `ebb up` uses the pieces, for the Envoy
// that is one of its own children.
package gateway
