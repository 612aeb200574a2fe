// Package event is a CloudEvent as Ebb carries it: the context attributes as strings, in
// the canonical form of the CloudEvents type system, and the data as bytes that nobody
// looks into. It is one value from the ingress to the subscriber; the packages beside it
// read it from HTTP, store it, match it and deliver it.
//
// The CloudEvents SDK's own type keeps extensions as a map of anything and times as
// values; on the way of every event that costs more than the rest of it. ToSDK and
// FromSDK are the border to code that wants the SDK's type, such as CESQL.
package event
