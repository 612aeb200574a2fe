// Package e2e holds the tests of the embedded platform as a user has it: real programs,
// real processes, calls over the gateway. All tests run beside each other, each in a
// namespace of its own, on one platform (package platform), except those that stop it.
package e2e
