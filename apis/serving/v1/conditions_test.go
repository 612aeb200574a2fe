package v1_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

func TestConditions(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var c v1.Conditions
	if !c.SetUnknown(v1.RevisionContainerHealthy, v1.ReasonDeploying, "", start) || !c.SetTrue(v1.RevisionResourcesAvailable, start) {
		t.Fatal("nothing changed")
	}
	c.Aggregate(v1.RevisionDependents(), start)
	if ready := c.Get(v1.ConditionReady); !ready.IsUnknown() || ready.Reason != v1.ReasonDeploying {
		t.Errorf("%+v", ready)
	}
	later := start.Add(time.Minute)
	if !c.SetUnknown(v1.RevisionContainerHealthy, v1.ReasonResolvingDigests, "x", later) {
		t.Error("a new reason is no change")
	}
	if got := c.Get(v1.RevisionContainerHealthy).LastTransitionTime.Time; !got.Equal(start.Truncate(time.Second)) {
		t.Errorf("the transition moved to %s while the status stayed", got)
	}
	c.SetFalse(v1.RevisionContainerHealthy, "ExitCode1", "it exited", later)
	c.Aggregate(v1.RevisionDependents(), later)
	if ready := c.Get(v1.ConditionReady); !ready.IsFalse() || ready.Reason != "ExitCode1" || ready.Message != "it exited" || !ready.LastTransitionTime.Time.Equal(later.Truncate(time.Second)) {
		t.Errorf("%+v", ready)
	}
	if c.SetFalse(v1.RevisionContainerHealthy, "ExitCode1", "it exited", later.Add(time.Hour)) || c.Aggregate(v1.RevisionDependents(), later) {
		t.Error("the same again is a change")
	}
	var up v1.Conditions
	up.Carry(v1.ServiceConfigurationsReady, c.Get(v1.ConditionReady), later)
	if got := up.Get(v1.ServiceConfigurationsReady); got.Message != "it exited" {
		t.Errorf("%+v", got)
	}
	if !c.Remove(v1.ConditionReady) || c.Remove(v1.ConditionReady) {
		t.Error("remove")
	}
}

// TestConditionsHold checks what holds after any sequence of changes.
func TestConditionsHold(t *testing.T) {
	types := []string{"A", "B", "C"}
	statuses := []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}
	rapid.Check(t, func(t *rapid.T) {
		var c v1.Conditions
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Second)
			next := v1.Condition{
				Type: rapid.SampledFrom(types).Draw(t, "type"), Status: rapid.SampledFrom(statuses).Draw(t, "status"),
				Reason: rapid.SampledFrom([]string{"", "X", "Y"}).Draw(t, "reason"),
			}
			var before v1.Condition
			if have := c.Get(next.Type); have != nil {
				before = *have
			}
			c.Set(next, now)
			after := *c.Get(next.Type)
			if moved := !after.LastTransitionTime.Equal(&before.LastTransitionTime); moved != (before.Status != after.Status) {
				t.Fatalf("%+v to %+v", before, after)
			}
			c.Aggregate(types, now)
			want := corev1.ConditionTrue
			for _, name := range types {
				have := c.Get(name)
				if have.IsFalse() {
					want = corev1.ConditionFalse
				} else if have.IsUnknown() && want == corev1.ConditionTrue {
					want = corev1.ConditionUnknown
				}
			}
			if got := c.Get(v1.ConditionReady).Status; got != want {
				t.Fatalf("Ready %s, want %s of %+v", got, want, c)
			}
			if !slices.IsSortedFunc(c, func(a, b v1.Condition) int { return strings.Compare(a.Type, b.Type) }) {
				t.Fatalf("not sorted: %+v", c)
			}
		}
	})
}
