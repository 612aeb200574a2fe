// Package envoytest starts a real Envoy for a test.
//
// A bootstrap comes in, and a running process goes out that answers on its
// admin interface and ends with the test. The binary is $ENVOY, the first envoy on the PATH,
// or the one that `make envoy` keeps in the user's cache; a test is skipped, with
// that reason printed, only when there is none, and with -short. Any test may call it; no product
// code does.
package envoytest
