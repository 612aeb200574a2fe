// Package parallel makes the Channel that events of a Parallel come to and, for each branch, a
// Subscription from there to its subscriber; where there is a filter, to the filter, whose answers
// come to a Channel of the branch's own, and one from there.
package parallel
