// Package hpa lets Kubernetes scale the Revisions whose autoscaler class is
// hpa.autoscaling.knative.dev.
//
// In come Revisions, what scales them (their Service's and Configuration's annotations,
// the settings) and their Deployments, from the cache; out goes one HorizontalPodAutoscaler
// a Revision of that class, and none for one of another class, so that the class can
// change at any time. It is a controller of its own because it follows other objects than the revision
// controller, whose Deployment it leaves alone: the replicas belong to whichever autoscaler
// the class names. The pure part is make (make.go); [Add] is for the controller's main program.
package hpa
