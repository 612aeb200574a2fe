// Package wire stands in the way of TCP connections, so that a test can cut them, make
// them slow, and refuse new ones.
//
// A Wire listens on an address and connects to another one. Only test/e2e/platform
// makes them; tests get them from there.
package wire
