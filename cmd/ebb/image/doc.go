// Package image makes a container image from a Go package and pushes it to a registry.
// What comes in is a folder of Go code; what goes out is an image reference by digest.
// The build is ko's, on an empty base image, so nothing but Go is needed and nothing is
// fetched but the code's own modules. `ebb deploy`, `ebb up --try` and `ebb demo` call it.
// Load brings an image from a file there instead; `ebb image load` calls it.
package image
