package apply

import (
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// firstWord is how long an object may be without a status while all there is to say is that
// things are on their way.
const firstWord = 5 * time.Second

// Early is how long the first status of an object may wait; zero: it is to be written now. What
// is made in one go (a Service with all that belongs to it) is Ready before that, and a status
// that says True or False never waits.
func Early(seen client.Object, was, is *v1.Status, now time.Time) time.Duration {
	if was.ObservedGeneration != 0 || !is.Conditions.Get(v1.ConditionReady).IsUnknown() {
		return 0
	}
	// The age is of two clocks, and of whole seconds on one of them.
	age := now.Sub(seen.GetCreationTimestamp().Time)
	if age < -time.Second || age >= firstWord {
		return 0
	}
	return min(firstWord-age, firstWord)
}
