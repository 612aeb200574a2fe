// Package shim is the small process over each container. The node writes a Spec
// into the container's folder and starts `ebb-shim run FOLDER`; the shim sets up
// the isolation, starts the program, copies its output to the log file, waits
// for it and writes how it ended. It is in a session of its own, so that a killed
// node takes no container with it, and everything a new node needs to take the
// container over is in the folder:
//
//	spec.json   what to run (written by the node)
//	state.json  the shim's process and the program's (written at the start)
//	log, log.1  output, a line each: TIME stdout|stderr F|P TEXT
//	exit.json   how it ended (written last, in one step)
//
// A further program enters a running container by two processes: `ebb-shim exec`, which
// stays outside and gives its descriptors, and `ebb-shim inside`, which starts it.
//
// Here are the Spec and the other files' types, starting, watching, signalling
// and adopting a shim (called by local/node), and the two halves that run inside
// the ebb-shim binary (called by cmd/ebb-shim). Nothing but the standard library
// and x/sys is imported: the binary is small and starts in about a millisecond.
package shim
