// Package sink finds the address of a destination: of a URI, or of an object that takes
// events. It reads the objects and writes none.
//
// In come destinations of specs; out go addresses, or an error that names the object which is
// missing or has no address. Controllers that have destinations index their objects by Keys
// and are woken by Watch when an address changes.
package sink
