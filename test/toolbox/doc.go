// Command toolbox stands for what a public image holds, where none can be fetched: called
// as python FILE it serves the file on $PORT, called as cat, tar, exit, write or get it is
// the little of those that tests of `kubectl exec` and `cp` need. Tests put it into an image of their own.
package main
