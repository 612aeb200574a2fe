// Package pingsource resolves the sinks of PingSources and hands what they send to
// eventing/sources/ping, in the leader. Up to which tick all is done is noted in the status, at most once
// a minute where the sink is a Broker or a Channel, which find duplicates, and at most every ten seconds where it is not.
package pingsource
