// Package datadir is the folder in which `ebb up` keeps everything: its lock, its
// format, the ports it was given, and what user commands must know of a running
// platform. What comes in is the folder's path; what goes out are paths, ports and the
// Running record. `ebb up` writes it, the user's commands read it.
package datadir
