// Package ir is the data plane's own model: listeners, virtual hosts with their
// rules, weighted backends, clusters and endpoints with priorities.
//
// Values come in from the translators of API dialects (proxy/translate) and go
// out to the encoders of proxies (proxy/envoy). Nothing here knows Kubernetes or
// Envoy: a value only remembers, as an opaque [Owner], which object it came from,
// so that a rejection can be shown there. All values are plain data, compared
// with ==, reflect.DeepEqual or go-cmp, and are not changed once handed on.
package ir
