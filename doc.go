// Package ebb is the root of the module. It holds no code: the folders below it
// are the parts of the platform, each introduced by its doc.go, and
// docs/architecture.md shows how they work together. The test beside this file keeps
// the arrows between them.
package ebb
