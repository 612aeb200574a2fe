// Package steady is a steady load for tests of faults: so many requests a second to
// several services, GET and POST in turn, from a client that tries nothing again, with a note
// of every failure.
//
// What comes in is how to connect to a gateway, and the URLs; what goes out are counts and
// failures. Only tests call it.
package steady
