// Package filter decides which events a Trigger gets. In come the filters of a plan.Subscription, as data; [Compile] makes
// a [Matcher] of them once, and [Matcher.Match] answers for each event, without an allocation for every
// dialect but cesql. The dialects are those of the CloudEvents Subscriptions API; cesql is the CloudEvents SDK's.
//
// What does not compile matches nothing, so that a mistake in a Trigger delivers too little and says so, instead of too
// much. The same holds for an expression that fails on an event.
package filter
