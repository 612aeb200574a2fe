// Package serve holds the long-running parts of the platform as commands:
// `ebb controller` (controllers, admission, autoscaler and discovery server in one
// process), `ebb activator`, `ebb eventing` and `ebb nats`. It only wires: what the parts do lives in their own
// folders. cmd/ebb adds the commands to its tree.
package serve
