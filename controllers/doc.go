// Package controllers has no code of its own: each folder below is one controller, a
// small reconciler with the pure functions that it is made of beside it.
//
//	settings       ConfigMaps into the settings store
//	service        Service -> Configuration, Route
//	configuration  Configuration -> Revisions
//	revision       Revision -> Deployment, and what its pods say
//	gc             deletes Revisions that nobody needs any more
//	hpa            Revision -> HorizontalPodAutoscaler, where its class says so
//	route          Route -> status.traffic, URLs, in-cluster names
//	domainmapping  DomainMapping -> status, ClusterDomainClaim
//	certificate    has cert-manager issue certificates, for route and domainmapping
//	apply          how all of them write
//
// Objects come in from the API server's watches and go out to it by server-side apply; a
// controller is added to a manager by its Add. The tests here run all of them together
// against a real API server, with no kubelet: pods are what the test says.
package controllers
