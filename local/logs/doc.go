// Package logs reads a container's log files as the kubelet's API gives them out:
// the CRI lines of log.1 and log, cut by tail, time and size, with or without
// timestamps, and followed while the container runs. The files are written by
// local/shim; local/node serves what is read here.
package logs
