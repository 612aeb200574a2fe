// Package compat holds tests only: they compare Ebb's types of the Serving API with
// the public ones, knative.dev/serving at PublicVersion: the Go declarations field by
// field, the schemas path by path, and fixtures through both schemas.
//
// The public module is read as source and YAML and is not linked: two modules it needs
// to compile, knative.dev/pkg and knative.dev/networking, could not be had from the Go
// module proxy at the versions it names.
package compat
