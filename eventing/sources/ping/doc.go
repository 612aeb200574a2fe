// Package ping sends the events of PingSources at their ticks. It runs in the leader.
//
// A tick is a moment that follows from the schedule alone, and the id of its event from the source's UID
// and the tick, so whoever sends it sends the same event: after a change of leader the new one begins
// after the last tick that is known to have been sent, and what both have sent is one event to a store that
// looks for duplicates.
package ping
