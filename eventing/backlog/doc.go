// Package backlog tells the control plane what subscriptions have still to do (proxy/link, service Backlog), so that the
// autoscaler can give their subscribers pods.
package backlog
