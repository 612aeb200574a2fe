// Package demo does the whole main job once on a platform of its own and checks each
// step: from zero, a second revision, a split, a rollback, up under load, back to zero.
// What comes in is the folder of an example; what goes out is a table of steps and
// whether all of them held. `ebb demo` is its only caller.
package demo
