package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"ebb.dev/ebb/test/e2e/platform"
)

// TestFaults makes each fault once while the load flows: no GET fails and no held request is lost, a split change written
// at once and calls of a service at zero take effect, nothing is scaled below its load. It prints a table.
func TestFaults(t *testing.T) {
	s := newTen(t)
	s.showOnFailure(t)
	table := []string{"| fault | requests | failed GET | failed POST | held, lost | until a change was in effect, and the last held request answered |", "|---|---|---|---|---|---|"}
	var all []fault
	for _, f := range append(ofParts(), ofPods()...) {
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
			all = append(all, f)
			table = append(table, s.run(t, f))
		})
	}
	t.Logf("at %d requests a second; a fault that lasts: %v\n%s", *perSecond, *lasting, strings.Join(table, "\n"))
	s.clean(t, all)
}

// run makes one fault and returns its line of the table.
func (s *ten) run(t *testing.T, f fault) string {
	t.Helper()
	s.nextAtZero()
	s.load.Settle()
	before, failures := s.load.Counts(), len(s.load.Failures())
	s.tell("%s", f.name)
	ctx, cancel := context.WithTimeout(t.Context(), platform.Deadline+*lasting)
	defer cancel()
	began := time.Now()
	end := f.begin(t, s)
	h := s.callZero(t)
	answered := make(chan []error, 1)
	var heldFor time.Duration
	go func() {
		lost := h.wait()
		heldFor = time.Since(began)
		answered <- lost
	}()
	type result struct {
		err  error
		took time.Duration
	}
	changed := make(chan result, 1)
	go func() {
		err := s.change(ctx)
		changed <- result{err, time.Since(began)}
	}()
	if f.lasts {
		s.last(t)
		s.tell("%s: until now", f.name)
	}
	end()
	s.tell("%s: whole again", f.name)
	c := <-changed
	if c.err != nil {
		t.Error(c.err)
	}
	lost := <-answered
	for _, err := range lost {
		if f.on != "gateway" {
			t.Error(err)
		}
	}
	s.await(t, 50)
	s.load.Settle()
	counts := s.load.Counts().Sub(before)
	for _, failure := range s.load.Failures()[failures:] {
		if !f.may(failure) {
			t.Errorf("failed: %v", failure)
		}
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d, %d | %.1f s, %.1f s |", f.name, counts.Requests(), counts.FailedGET, counts.FailedPOST, h.n, len(lost), c.took.Seconds(), heldFor.Seconds())
}
