// Package registry is the embedded OCI registry: the distribution API of
// go-containerregistry, with blobs in files and every manifest that was accepted
// kept in a file too, so that a restart forgets nothing. Pushes and pulls come
// in over HTTP; `ebb-node registry` serves it on loopback.
package registry
