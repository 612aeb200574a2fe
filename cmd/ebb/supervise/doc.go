// Package supervise keeps child processes running: it starts them, notices when they
// are ready, restarts what crashes with a growing pause, keeps their output in bounded
// log files and ends them. What comes in is a Spec for each child; what goes out are
// Events. It knows nothing of what the children do. `ebb up` is its caller.
package supervise
