// Package envoy encodes the data plane's model for Envoy.
//
// Values of [ebb.dev/ebb/proxy/ir] come in, one at a time, and xDS resources go
// out: [Listener], [Scopes], [RouteConfiguration], [Cluster],
// [ClusterLoadAssignment] and [Secret], and with [Bootstrap] the file a gateway starts with.
// Every function is pure, may be called from several goroutines, and gives the
// same bytes for the same value. Every resource has passed the validation rules of
// its own type when it is handed out, so an error here names the object and the field.
//
// The publisher (proxy/publish) calls it; nothing here knows where a value came from.
package envoy
