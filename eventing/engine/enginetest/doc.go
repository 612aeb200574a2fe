// Package enginetest is what any engine has to pass: every sentence of package engine as a
// test. It is called from the tests of an implementation.
package enginetest
