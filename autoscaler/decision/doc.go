// Package decision says how many pods a revision should have, and why.
//
// In come the revision's settings, the averages of its load, its pods and the time; out come a
// [Decision] and the [State] to pass in next time. [Decide] is one pure function: no clock, no client,
// nothing blocks. The rules are those of the public standard autoscaler (KPA). Only the autoscaler calls it;
// `ebb explain` prints [Decision.Explain].
package decision
