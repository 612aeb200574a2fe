// Package apply writes objects by server-side apply: the one way in which controllers
// change what they own.
//
// In come the object as it should be and as it was last seen (from a cache); out goes
// at most one patch, and none when what was seen already is as it should be. Only the
// reconcilers in controllers call it.
//
// Each writer has a field manager of its own, so that it owns exactly the fields it
// names: what others set on the same object stays, and a field that a writer no longer
// names goes away. A hash of what was written is kept in [HashAnnotation]; it says,
// without looking at managed fields, that nothing has been dropped since.
package apply
