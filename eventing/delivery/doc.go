// Package delivery is what happens to an event once it was tried: accepted, replied to, tried again and when, or a
// dead letter. It is pure: in come a plan.Delivery, the number of the attempt and the [Answer], out comes a
// [Decision]. The rules are those of the Knative data plane contract ("Event Acknowledgement and Delivery Retry").
//
// It also says what a dead letter carries ([Failure.Mark]) and how the hop limit of a reply is counted ([Follow]).
package delivery
