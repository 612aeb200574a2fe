// Package apiserver sends an event for each change of the objects that an ApiServerSource
// names. It runs in the leader, with the permissions of the source's service account.
//
// Of each kind and namespace there is one stream: a list, whose objects are sent as added, and then a
// watch that begins where the list ended. Up to which version all is sent is known at any time, so that another
// leader goes on with the watch from there, and what happened meanwhile is sent, deletions too.
package apiserver
