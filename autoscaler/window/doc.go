// Package window holds what a revision's load was over the last while.
//
// In come integrals: how many request·seconds (or requests, for the rps metric)
// fell into a period. Out come averages over the stable and the panic window,
// weighted by time, and when the revision was last busy. Everything is pure: the
// time is passed in, nothing here blocks, and a Window belongs to one caller at a
// time. Only the autoscaler uses it.
package window
