package deadletter

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// TestAnEventIsTheSameAgain takes events through being a dead letter and being redelivered.
func TestAnEventIsTheSameAgain(t *testing.T) {
	text := rapid.StringMatching(`[a-z0-9@#/ -]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		e := &event.Event{ID: text.Draw(t, "id"), Source: "/s", Type: "t", Data: []byte("data")}
		for range rapid.IntRange(0, 3).Draw(t, "extensions") {
			e.SetExtension(rapid.StringMatching(`x[a-z]{1,3}`).Draw(t, "name"), text.Draw(t, "value"))
		}
		before := e.Clone()
		owner := plan.Reference{Kind: "Trigger", Namespace: "default", Name: text.Draw(t, "owner")}
		failure := delivery.Failure{Destination: "http://a/", Code: 418, Body: []byte(text.Draw(t, "body"))}
		stored := failure.Mark(e)
		Address(stored, owner, "uid")
		if stored.ID == e.ID {
			t.Fatal("the letter has the event's id, which another letter may have")
		}
		at := time.Unix(1, 0)
		letter := Open(stored, 7, at)
		want := Letter{Sequence: 7, At: at, Owner: owner, Subscription: "uid", Event: before, Failure: failure}
		if diff := cmp.Diff(want, letter, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		again := letter.addressed()
		if again.ID == e.ID || again.ID == stored.ID {
			t.Fatalf("the redelivered event has the id %s, which the engine may know", again.ID)
		}
		only, deliver := For(again)
		if only != "uid" || deliver.ID != before.ID || len(deliver.Extensions) != len(before.Extensions) {
			t.Fatalf("for %q: %+v, want %+v", only, deliver, before)
		}
		if only, same := For(e); only != "" || same != e {
			t.Fatal("an event of anybody is for one subscription")
		}
	})
}
