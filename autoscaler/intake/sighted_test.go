package intake

import (
	"testing"
	"time"
)

// Load is known since the last time that any reporter came or went: what it has had elsewhere, or has meanwhile, nobody told.
func TestSightedSinceTheLastChange(t *testing.T) {
	s, conn := serve(t, Options{Sink: discard{}, Forget: time.Millisecond})
	since := time.Now()
	later := func(what string, missing string) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		end := time.After(deadline)
		for {
			now, m := s.Sighted()
			if now.After(since) && m == missing {
				since = now
				return
			}
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("%s: since %v and %q, want later than %v and %q", what, now, m, since, missing)
			}
		}
	}
	one := connect(t, conn, "g1", "ebb-gateway")
	later("a gateway", "no activator reports its load")
	first := connect(t, conn, "a1", NodeActivator)
	later("an activator", "")
	two := connect(t, conn, "g2", "ebb-gateway")
	later("another gateway", "")
	second := connect(t, conn, "a2", NodeActivator)
	later("another activator", "")
	two.cancel()
	later("a gateway less", "")
	second.cancel()
	later("an activator less", "")
	one.cancel()
	later("no gateway", "no gateway reports its load")
	connect(t, conn, "g1", "ebb-gateway")
	later("it is back", "")
	first.cancel()
	later("no activator", "no activator reports its load")
}
