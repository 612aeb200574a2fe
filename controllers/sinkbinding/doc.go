// Package sinkbinding writes the address of a sink into the pod templates of a SinkBinding's
// subject, and takes it out again before the SinkBinding goes. Subjects may be of any kind with a pod template
// and are not watched: they are looked at every LookAgain.
package sinkbinding
