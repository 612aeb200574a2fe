// Package link is the protocol between the control plane, its activators and the eventing part:
// the Revision resource that is served over delta ADS, and the Membership, Drain and Backlog services. The
// messages are generated from link.proto.
package link

// RevisionType is the type URL under which a [Revision] is served.
const RevisionType = "type.googleapis.com/ebb.link.v1.Revision"
