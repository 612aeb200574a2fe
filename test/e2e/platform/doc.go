// Package platform runs a whole embedded platform (`ebb up`) for tests, and gives each
// test a namespace of its own in it.
//
// What comes in are the programs in bin/ and an Envoy; what goes out is a Platform:
// clients for its API server and its two listeners, waiting by watch, killing of its
// parts. A test package calls Main from TestMain and Shared in its tests: the platform
// starts with the first test that needs it and ends with the last one, also on Ctrl-C
// and when the tests panic. Only tests may call it.
package platform
