// Package gc deletes Revisions that nobody needs any more, as config-gc says.
//
// In come Configurations, their Revisions and the Routes that refer to those, from the
// cache, the settings and the time; out go deletions of Revisions, each on condition that the Revision is still
// as it was seen. Never deleted are the latest created and the latest ready Revision, those
// that a Route's spec or status names and those with serving.knative.dev/no-gc. The pure
// part is collect (collect.go), which also says when to look again: nothing polls. [Add] is for the controller's main program.
package gc
