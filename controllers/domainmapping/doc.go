// Package domainmapping says under which host names of their own Services and Routes are served.
//
// In come DomainMappings, the Services and Routes that they name, the ClusterDomainClaims that say
// which namespace a host is for, and what the gateways have ([Programmed]). Out go the status of
// the mapping, which is what the data plane is made from, and, where config-network lets it, the
// claim. A claim that was made here goes when no mapping of its namespace has its name any more; there is no
// finalizer, so deleting a mapping never waits for this controller. The pure parts are
// resolve (resolve.go), claimed (claim.go) and certificate (certificate.go); [Add] is for the controller's main program.
package domainmapping
