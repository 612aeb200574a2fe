// Package configuration makes Revisions from a Configuration's template and follows the
// newest of them.
//
// In come Configurations and Revisions from the cache; out go one Revision for each
// generation of the template, created once and never changed here, and the
// Configuration's status: the latest created Revision, the latest that was ready, and,
// when the newest failed, its own message. The pure parts are makeRevision and observe;
// [Add] is for the controller's main program.
package configuration
