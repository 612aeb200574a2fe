package route

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The clock may be set at any moment, by any amount: a share never falls, and the next step is never further away than a step is long.
func TestRolloutWhileTheClockIsSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		duration := time.Duration(rapid.IntRange(2, 3600).Draw(t, "seconds")) * time.Second
		r, now := begin([]share{{"old", 100}}, "new", began), began
		for range rapid.IntRange(1, 50).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 10_000).Draw(t, "ms")) * time.Millisecond)
			if rapid.IntRange(0, 9).Draw(t, "set") == 0 {
				now = now.Add(time.Duration(rapid.IntRange(-48*3600, 3600).Draw(t, "by seconds")) * time.Second)
			}
			was := r.Share
			var next time.Time
			r, next = r.at(now, duration, true)
			if r.Share < was || r.Share > 100 {
				t.Fatalf("from %d%% to %d%%", was, r.Share)
			}
			if _, interval := r.steps(duration); !r.done() && now.Before(r.Since) || next.Sub(r.Since) > duration+interval {
				t.Fatalf("at %v, begun %v, the next step is at %v", now, r.Since, next)
			}
		}
	})
}
