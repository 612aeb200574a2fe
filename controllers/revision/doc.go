// Package revision runs a Revision: it resolves its images to digests, makes its
// Deployment and says on the Revision how its pods do, in their own words.
//
// In come Revisions, Deployments and pods from the cache, and answers of registries,
// which are asked beside the reconciler (digests.go, registry.go). Out go one Deployment
// a Revision and the Revision's status. The number of replicas is written once, when the
// Deployment is made; afterwards it is the autoscaler's. The pure parts are
// makeDeployment (make.go), observe (observe.go) and failure (failure.go); [Add] is for
// the controller's main program.
package revision
