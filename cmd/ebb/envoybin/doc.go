// Package envoybin finds an Envoy to run, or fetches one into the user's cache. What
// comes in are the user's wishes; what goes out is the path of an executable. `ebb up`
// and `ebb envoy` call it.
package envoybin
