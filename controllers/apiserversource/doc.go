// Package apiserversource resolves the sinks, kinds and namespaces of ApiServerSources and hands
// what they watch to eventing/sources/apiserver, in the leader, with a client that acts as the
// source's service account. Up to which version all was sent is noted in the status every ten seconds at most.
package apiserversource
