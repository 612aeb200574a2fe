package user

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// FuzzParseSplit: an error, or percents of different revisions that sum to 100.
func FuzzParseSplit(f *testing.F) {
	for _, text := range []string{"a=90 b=10", "a=90% b", "@latest=100", "a", "", "a==1", "a=+5 b=95", "a=1e2", "a=% b", "=", "a=9223372036854775807 b", "a=-0 b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Fields(text)
		split, err := parseSplit(args)
		if err != nil {
			if split != nil {
				t.Fatalf("%v with an error", split)
			}
			return
		}
		sum, seen := int64(0), map[string]bool{}
		for _, p := range split {
			if p.Percent < 0 || p.Percent > 100 || p.Revision == "" || seen[p.Revision] {
				t.Fatalf("%q gives %+v", text, split)
			}
			sum += p.Percent
			seen[p.Revision] = true
		}
		if len(split) != len(args) || len(args) > 0 && sum != 100 {
			t.Fatalf("%q gives %+v, which sum to %d", text, split, sum)
		}
	})
}

// TestTrafficChangesAreAdmitted: whatever changes follow each other, what `ebb traffic`
// writes is what admission takes.
func TestTrafficChangesAreAdmitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &v1.Service{}
		s.Name, s.Namespace = "s", "default"
		s.Spec.Template.Spec.Containers = []corev1.Container{{Image: "a"}}
		s.SetDefaults(settings.Default())
		var revisions []v1.Revision
		for i := range 4 {
			revisions = append(revisions, revision(fmt.Sprintf("s-%05d", 4-i), true))
		}
		names := rapid.SampledFrom([]string{latest, "s-00001", "s-00002", "s-00003", "s-00004"})
		tags := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			var change TrafficChange
			switch rapid.IntRange(0, 4).Draw(t, "change") {
			case 0:
				left := int64(100)
				for _, name := range rapid.SliceOfNDistinct(names, 1, 4, rapid.ID[string]).Draw(t, "revisions") {
					p := rapid.Int64Range(0, left).Draw(t, "percent")
					change.Split = append(change.Split, Percent{name, p})
					left -= p
				}
				change.Split[0].Percent += left
			case 1:
				change.ToLatest = true
			case 2:
				change.Rollback = true
			case 3:
				change.Untag = []string{tags.Draw(t, "untag")}
			}
			for range rapid.IntRange(0, 2).Draw(t, "tags") {
				change.Tags = append(change.Tags, [2]string{names.Draw(t, "tagged"), tags.Draw(t, "tag")})
			}
			next, err := change.apply(s, revisions)
			if err != nil {
				continue
			}
			if s.Spec.Traffic = next; len(s.Validate(settings.Default())) > 0 {
				t.Fatalf("%+v gives %s: %v", change, describeTraffic(next), s.Validate(settings.Default()).ToAggregate())
			}
			s.Status.Traffic = next
			s.SetDefaults(settings.Default())
			if again, err := change.apply(s, revisions); err == nil && len(change.Untag) == 0 && !change.Rollback && describeTraffic(again) != describeTraffic(s.Spec.Traffic) {
				t.Fatalf("%+v again changes %s to %s", change, describeTraffic(s.Spec.Traffic), describeTraffic(again))
			}
		}
	})
}
