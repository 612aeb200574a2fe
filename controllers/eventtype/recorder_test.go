package eventtype

import (
	"fmt"
	"strings"
	"testing"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/eventing/plan"
)

func newRecorder() *Recorder {
	return &Recorder{settings: settings.NewStore(), known: map[seen]struct{}{}, waiting: make(chan found, maxWaiting)}
}

// TestSeenIsBounded: what is remembered and what waits have bounds, and Seen never blocks.
func TestSeenIsBounded(t *testing.T) {
	r := newRecorder()
	of := plan.Address{Kind: plan.Broker, Namespace: "default", Name: "main"}
	for i := range 3 * maxWaiting {
		r.Seen(of, "type", fmt.Sprint("/source/", i), "")
		r.Seen(of, "type", "/source/0", "")
	}
	r.Seen(of, strings.Repeat("t", maxText+1), "/s", "")
	if len(r.waiting) != maxWaiting || len(r.known) != maxWaiting {
		t.Errorf("%d wait, %d are remembered", len(r.waiting), len(r.known))
	}
	r.forget(seen{of, "type", "/source/1"})
	<-r.waiting
	r.Seen(of, "type", "/source/1", "")
	if len(r.waiting) != maxWaiting {
		t.Errorf("what was forgotten does not wait again: %d", len(r.waiting))
	}
}

func TestNames(t *testing.T) {
	for eventType, begin := range map[string]string{"com.example.Order": "com-example-order-", "": "type-", "ÄÖ": "type-", strings.Repeat("a", 100): strings.Repeat("a", 40) + "-"} {
		if got := name("uid", eventType, "/s"); !strings.HasPrefix(got, begin) || len(got) > 63 || got == name("uid", eventType, "/t") {
			t.Errorf("the name of %q is %s", eventType, got)
		}
	}
}

// BenchmarkSeen is what an event costs whose type is known.
func BenchmarkSeen(b *testing.B) {
	r := newRecorder()
	of := plan.Address{Kind: plan.Broker, Namespace: "default", Name: "main"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Seen(of, "com.example.order.created", "/shop/orders", "")
		}
	})
}
