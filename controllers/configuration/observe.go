package configuration

import (
	"fmt"
	"time"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// seen is what the Configuration's status is made from.
type seen struct {
	name      string         // of the Revision for the current generation
	latest    *v1.Revision   // that Revision; nil when it could not be made
	taken     string         // why not, when its name belongs to another
	refused   string         // why not, when the API server refuses it
	revisions []*v1.Revision // all of this Configuration, in any order
}

// observe returns the Configuration's next status.
func observe(c *v1.Configuration, s seen, now time.Time) v1.ConfigurationStatus {
	status := *c.Status.DeepCopy()
	status.ObservedGeneration = c.Generation
	status.Conditions.Remove(v1.ConditionPaused)
	if s.taken != "" {
		status.Conditions.SetFalse(v1.ConditionReady, v1.ReasonRevisionNameTaken, s.taken, now)
		return status
	}
	if s.refused != "" {
		status.Conditions.SetFalse(v1.ConditionReady, v1.ReasonRevisionFailed,
			fmt.Sprintf("Revision %q could not be made: %s", s.name, s.refused), now)
		return status
	}
	status.LatestCreatedRevisionName = s.name
	before := status.LatestReadyRevisionName
	status.LatestReadyRevisionName = latestReady(before, s)
	ready := s.latest.Status.Conditions.Get(v1.ConditionReady)
	if s.latest.Status.ObservedGeneration != s.latest.Generation {
		ready = nil
	}
	switch {
	case ready.IsTrue():
		status.Conditions.SetTrue(v1.ConditionReady, now)
	case ready.IsFalse():
		status.Conditions.SetFalse(v1.ConditionReady, v1.ReasonRevisionFailed,
			fmt.Sprintf("Revision %q failed with message: %s", s.name, text(ready)), now)
	case before != "" && status.LatestReadyRevisionName == "":
		status.Conditions.SetFalse(v1.ConditionReady, v1.ReasonRevisionDeleted,
			fmt.Sprintf("Revision %q, the latest that was ready, is gone and no other is ready.", before), now)
	case ready == nil:
		status.Conditions.SetUnknown(v1.ConditionReady, "", "", now)
	default:
		status.Conditions.SetUnknown(v1.ConditionReady, ready.Reason, ready.Message, now)
	}
	return status
}

// latestReady is the newest Revision that is ready. It is the latest created one as soon
// as that is ready, and never older than the one known before while that exists.
func latestReady(before string, s seen) string {
	if s.latest.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
		return s.latest.Name
	}
	best, at := "", int64(-1)
	for _, rev := range s.revisions {
		known := rev.Name == before
		if !known && !rev.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
			continue
		}
		if g := generation(rev); g > at || (g == at && rev.Name > best) {
			best, at = rev.Name, g
		}
	}
	return best
}

func text(c *v1.Condition) string {
	if c.Message != "" {
		return c.Message
	}
	return c.Reason
}
