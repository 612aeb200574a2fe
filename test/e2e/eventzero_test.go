package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"ebb.dev/ebb/test/e2e/platform"
)

// TestEventFromZeroBesideACall: an event reaches a Service at zero as a call does. The two are made in turns, each of a Service that has
// never had a pod, and how long they took is printed and not asserted: the event's until the Service's reply to it was delivered.
func TestEventFromZeroBesideACall(t *testing.T) {
	n := beginEvents(t)
	url := withBroker(n)
	replies := make(chan time.Time, 100)
	sink := platform.NewSink(t, func(platform.Delivery, http.ResponseWriter) bool {
		replies <- time.Now()
		return false
	})
	const pairs = 6
	manifest := fmt.Sprintf(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: done}
spec: {broker: default, filter: {attributes: {type: done}}, subscriber: {uri: "%s/done"}}
`, sink.URL)
	for i := range pairs {
		n.DeployAtZero(fmt.Sprint("call-", i), nil)
		n.DeployAtZero(fmt.Sprint("event-", i), nil)
		manifest += fmt.Sprintf(`---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: work-%[1]d}
spec:
  broker: default
  filter: {attributes: {type: work-%[1]d}}
  subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: event-%[1]d}, uri: "/reply?type=done"}
`, i)
	}
	n.MakeReady(manifest)
	var calls, events []time.Duration
	for i := range pairs {
		begin := time.Now()
		if a, err := n.Fetch(t.Context(), platform.External, n.URL(fmt.Sprint("call-", i), "/")); err != nil || a.Status != http.StatusOK {
			t.Fatalf("call %d: %v, %v", i, a.Status, err)
		}
		calls = append(calls, time.Since(begin))
		begin = time.Now()
		id := fmt.Sprint("event-", i)
		n.Send(url, event(id, fmt.Sprint("work-", i)))
		sink.Await(t, "/done", id+"/done")
		events = append(events, (<-replies).Sub(begin))
	}
	slices.Sort(calls)
	slices.Sort(events)
	t.Logf("from zero, medians of %d in turns: a call %d ms, an event %d ms until its reply was delivered (%v, %v)", pairs,
		calls[pairs/2].Milliseconds(), events[pairs/2].Milliseconds(), calls, events)
}
