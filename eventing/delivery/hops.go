package delivery

import (
	"strconv"

	"ebb.dev/ebb/eventing/event"
)

// HopLimit is the extension that counts how often an event may still be derived from, so that two Triggers that
// answer each other end.
const HopLimit = "knativebrokerttl"

// DefaultHops is the hop limit of an event that has none.
const DefaultHops = 255

// Hops is how many are left.
func Hops(e *event.Event) int {
	value, there := e.Get(HopLimit)
	if !there {
		return DefaultHops
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return DefaultHops
	}
	return n
}

// Follow makes a reply ready to be stored: one hop less than the event that it answers, whatever it says itself, and in its trace
// if it names none. false: there is no hop left, so the reply must not be delivered.
func Follow(original, reply *event.Event) bool {
	left := Hops(original) - 1
	reply.SetExtension(HopLimit, strconv.Itoa(max(left, 0)))
	if _, there := reply.Get("traceparent"); !there {
		for _, name := range []string{"traceparent", "tracestate"} {
			if value, there := original.Get(name); there {
				reply.SetExtension(name, value)
			}
		}
	}
	return left > 0
}
