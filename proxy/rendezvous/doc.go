// Package rendezvous ranks candidates for a key, the same wherever it is asked and whoever else there
// is: whoever ranks highest has it (rendezvous hashing; Thaler and Ravishankar, 1998). In come names, out goes a
// weight. proxy/translate chooses a Revision's activators by it, proxy/shares a pod's.
package rendezvous
