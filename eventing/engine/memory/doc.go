// Package memory is an engine that keeps its events in this process and nowhere else: for tests, which it serves
// in a testing/synctest bubble too. A [Store] has the events, and each [Engine] is one process that uses it. There is
// no goroutine, and it passes the tests of engine/enginetest.
package memory
