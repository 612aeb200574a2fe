// Package probe runs a container's startup, liveness and readiness probes. A
// Probe of the pod's spec and the real address of the container come in;
// successes and failures that passed their thresholds go out. Check is one try,
// Counter the pure rule of thresholds, Run the loop around both. local/node runs
// one loop a probe.
//
// A readiness or startup probe is tried the moment the program runs and every 10
// to 50 ms during its first second: a container is called ready when it is, not
// when a period is over.
package probe
