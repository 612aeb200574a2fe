// Package rights holds the test of what the controller and the eventing part may do on a cluster: it lets the whole product work with exactly the roles of
// config/install, reads the kube-apiserver's audit log, and compares what was granted with what was done.
package rights
