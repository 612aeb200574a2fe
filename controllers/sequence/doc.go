// Package sequence makes a Channel and a Subscription for each step of a Sequence: what a
// step answers goes to the Channel of the next one.
package sequence
