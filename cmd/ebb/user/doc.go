// Package user holds the commands with which people work: deploy, list, describe,
// traffic, revisions, logs, delete and status. What comes in are arguments and a
// kubeconfig; what goes out are changed objects and text. They speak only to the
// kube-apiserver, but for status, which also asks the parts of an embedded platform.
package user
