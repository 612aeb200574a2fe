// Package route says where a Route's traffic goes.
//
// In come Routes and what they refer to, Configurations and Revisions, from the cache,
// the settings that make host names, and what the gateways have acknowledged
// ([Programmed]). Out go status.traffic, which is what the data plane is made from, the
// URLs, an ExternalName Service for the in-cluster name of the Route and of each tag, and
// on each Revision which Routes refer to it. When a target of the spec cannot be
// served, the last good status.traffic stays. A target that follows a Configuration may move
// to its new Revision step by step; where it is on its way is kept in the Route's status.
// The pure parts are assign (assign.go), roll (roll.go) with the steps of one rollout
// (rollout.go), makeServices (make.go) and routing (refer.go); [Add] is for the
// controller's main program.
package route
