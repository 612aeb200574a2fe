package route

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// rolloutAnnotation is in the status of a Route while a rollout is on its way: a list of
// rollouts, written together with the traffic that they make.
const rolloutAnnotation = serving.EbbGroupName + "/rollout"

// rolling is what a Route's rollouts make of its traffic.
type rolling struct {
	traffic  []v1.TrafficTarget
	rollouts []rollout // those not at their end
	next     time.Time // when the traffic changes by itself; zero: never
	message  string    // for people; "" when there is no rollout
}

// roll puts the steps of rollouts between what the Route served and what it shall serve:
// traffic, as assign gave it, one entry for each target of the spec. A target that
// follows a Configuration moves to its new Revision over duration; 0 is at once.
func roll(r *v1.Route, traffic []v1.TrafficTarget, at targets, duration time.Duration, now time.Time) rolling {
	out := rolling{}
	before := rollouts(r)
	claimed := make([]bool, len(r.Status.Traffic))
	for i, t := range r.Spec.Traffic {
		target := traffic[i]
		if t.RevisionName != "" || duration <= 0 || *target.Percent <= 1 {
			out.traffic = append(out.traffic, target)
			continue
		}
		ro, ok := take(&before, t)
		if !ok {
			if from := servedFor(r, t, at, claimed); from != "" && from != target.RevisionName {
				ro, ok = begin([]share{{from, *target.Percent}}, target.RevisionName, now), true
			}
		}
		if !ok {
			out.traffic = append(out.traffic, target)
			continue
		}
		if ro.Percent != *target.Percent {
			ro = ro.scaled(*target.Percent, now)
		}
		if ro.To != target.RevisionName {
			ro = begin(ro.shares(), target.RevisionName, now)
		}
		ro.Configuration, ro.Tag = t.ConfigurationName, t.Tag
		ro = ro.without(func(name string) bool { return at.revisions[name] == nil })
		var ready *v1.Condition
		if to := at.revisions[ro.To]; to != nil {
			ready = to.Status.Conditions.Get(v1.ConditionReady)
		}
		out.add(ro, target, ready, duration, now)
	}
	return out
}

func (out *rolling) add(ro rollout, target v1.TrafficTarget, ready *v1.Condition, duration time.Duration, now time.Time) {
	ro, next := ro.at(now, duration, !ready.IsFalse())
	if ro.done() {
		out.traffic = append(out.traffic, target)
		return
	}
	out.rollouts = append(out.rollouts, ro)
	for _, s := range ro.shares() {
		one := target
		one.RevisionName, one.Percent, one.LatestRevision = s.Revision, new(s.Percent), new(s.Revision == ro.To)
		out.traffic = append(out.traffic, one)
	}
	if !next.IsZero() && (out.next.IsZero() || next.Before(out.next)) {
		out.next = next
	}
	switch {
	case ro.Paused:
		out.message = fmt.Sprintf("The gradual rollout stays at %d%% for Revision %q, which fails: %s", ro.Share, ro.To, ready.Message)
	case out.message == "":
		out.message = "A gradual rollout of the latest revision(s) is in progress."
	}
}

// told is an event about a rollout.
type told struct{ kind, reason, text string }

// rolloutEvents are what is worth telling of the change from one state to the next: a
// beginning, a pause, its end, and the end of all. Single steps are not.
func rolloutEvents(before, after []rollout) []told {
	find := func(all []rollout, like rollout) *rollout {
		for i := range all {
			if all[i].Configuration == like.Configuration && all[i].Tag == like.Tag {
				return &all[i]
			}
		}
		return nil
	}
	var out []told
	for _, now := range after {
		was := find(before, now)
		switch {
		case was == nil || was.To != now.To:
			out = append(out, told{corev1.EventTypeNormal, "RolloutStarted", fmt.Sprintf("Revision %q begins with %d%% of %d%%", now.To, now.Share, now.Percent)})
		case now.Paused && !was.Paused:
			out = append(out, told{corev1.EventTypeWarning, "RolloutPaused", fmt.Sprintf("Revision %q stays at %d%% of %d%%", now.To, now.Share, now.Percent)})
		case was.Paused && !now.Paused:
			out = append(out, told{corev1.EventTypeNormal, "RolloutResumed", fmt.Sprintf("Revision %q goes on from %d%% of %d%%", now.To, now.Share, now.Percent)})
		}
	}
	for _, was := range before {
		if find(after, was) == nil {
			out = append(out, told{corev1.EventTypeNormal, "RolloutEnded", fmt.Sprintf("The rollout to Revision %q, which had %d%% of %d%%, is at its end", was.To, was.Share, was.Percent)})
		}
	}
	return out
}

// held is what a Route's rollouts are while its traffic stays as it is: paused.
func held(r *v1.Route) []rollout {
	all := rollouts(r)
	for i := range all {
		all[i].Paused = true
	}
	return all
}

// take takes the rollout of a target out of those known before.
func take(before *[]rollout, t v1.TrafficTarget) (rollout, bool) {
	for i, ro := range *before {
		if ro.Configuration == t.ConfigurationName && ro.Tag == t.Tag {
			*before = append((*before)[:i:i], (*before)[i+1:]...)
			return ro, true
		}
	}
	return rollout{}, false
}

// servedFor is the Revision that a target of the spec is served by now: of a target that
// followed the same Configuration, under the same tag if there is one. "" when there is
// none, or it is gone.
func servedFor(r *v1.Route, t v1.TrafficTarget, at targets, claimed []bool) string {
	for _, sameTag := range []bool{true, false} {
		for i, s := range r.Status.Traffic {
			rev := at.revisions[s.RevisionName]
			if claimed[i] || s.LatestRevision == nil || !*s.LatestRevision || rev == nil || sameTag && s.Tag != t.Tag {
				continue
			}
			if rev.Labels[serving.ConfigurationLabel] == t.ConfigurationName {
				claimed[i] = true
				return s.RevisionName
			}
		}
	}
	return ""
}

// rollouts are those noted in the Route's status; what cannot be read, or makes no
// sense, is none, and then the target is at its end at once.
func rollouts(r *v1.Route) []rollout {
	text := r.Status.Annotations[rolloutAnnotation]
	if text == "" {
		return nil
	}
	var all []rollout
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil
	}
	for _, ro := range all {
		sum := ro.Begin
		for _, s := range ro.From {
			if s.Percent <= 0 || s.Revision == "" {
				return nil
			}
			sum += s.Percent
		}
		if ro.To == "" || ro.Percent < 2 || ro.Percent > 100 || sum != ro.Percent || ro.Begin < 1 || ro.Share < ro.Begin || ro.Share > ro.Percent {
			return nil
		}
	}
	return all
}

// note writes the rollouts into a status.
func note(status *v1.RouteStatus, all []rollout) error {
	if len(all) == 0 {
		delete(status.Annotations, rolloutAnnotation)
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("encode the state of the rollout: %w", err)
	}
	if status.Annotations == nil {
		status.Annotations = map[string]string{}
	}
	status.Annotations[rolloutAnnotation] = string(text)
	return nil
}

// rolloutDuration is the Route's own, by annotation, or that of the settings.
func rolloutDuration(r *v1.Route, s *settings.Settings) time.Duration {
	for _, key := range []string{serving.RolloutDurationAnnotation, serving.GroupName + "/rolloutDuration"} {
		if d, err := time.ParseDuration(r.Annotations[key]); err == nil && d >= 0 {
			return d
		}
	}
	return s.Network.RolloutDuration
}
