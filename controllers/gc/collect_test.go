package gc

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ebb.dev/ebb/apis/settings"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func config(t interface{ Fatal(...any) }, data map[string]string) settings.GC {
	s, err := settings.Default().With(settings.ConfigGC, data)
	if err != nil {
		t.Fatal(err)
	}
	return s.GC
}

// hours makes candidates by when they were created and when they were active last, in hours from t0.
func hours(at ...[2]int) []candidate {
	var all []candidate
	for i, h := range at {
		all = append(all, candidate{fmt.Sprint("r", i), t0.Add(time.Duration(h[0]) * time.Hour), t0.Add(time.Duration(h[1]) * time.Hour)})
	}
	return all
}

func TestCollect(t *testing.T) {
	for _, tc := range []struct {
		name string
		data map[string]string
		all  []candidate
		at   int // hours
		gone []string
		next int // hours; 0: never
	}{
		{name: "none", at: 100},
		{name: "fewer than the least stay, however old", all: hours([2]int{0, 0}, [2]int{1, 1}), at: 10000},
		{name: "both times must be over", data: map[string]string{"min-non-active-revisions": "0"},
			all: hours([2]int{0, 40}, [2]int{0, 30}, [2]int{10, 11}), at: 48, gone: []string{"r1"}, next: 55},
		{name: "the time itself counts", data: map[string]string{"min-non-active-revisions": "0"},
			all: hours([2]int{0, 33}), at: 48, gone: []string{"r0"}},
		{name: "the one idle for the longest goes first", data: map[string]string{"min-non-active-revisions": "1"},
			all: hours([2]int{0, 20}, [2]int{5, 10}), at: 100, gone: []string{"r1"}},
		{name: "above the most, however young", data: map[string]string{"min-non-active-revisions": "1", "max-non-active-revisions": "2"},
			all: hours([2]int{3, 3}, [2]int{1, 1}, [2]int{2, 2}, [2]int{4, 4}), at: 5, gone: []string{"r1", "r2"}, next: 51},
		{name: "most and least are one", data: map[string]string{"min-non-active-revisions": "1", "max-non-active-revisions": "1"},
			all: hours([2]int{3, 3}, [2]int{1, 1}), at: 5, gone: []string{"r1"}},
		{name: "no age is a reason", data: map[string]string{"retain-since-create-time": "disabled", "retain-since-last-active-time": "disabled", "min-non-active-revisions": "0"},
			all: hours([2]int{0, 0}), at: 10000},
		{name: "only the time since creation", data: map[string]string{"retain-since-last-active-time": "disabled", "min-non-active-revisions": "0"},
			all: hours([2]int{0, 47}, [2]int{1, 1}), at: 48, gone: []string{"r0"}, next: 49},
		{name: "only the time since it was active", data: map[string]string{"retain-since-create-time": "disabled", "min-non-active-revisions": "0"},
			all: hours([2]int{0, 1}, [2]int{0, 2}), at: 16, gone: []string{"r0"}, next: 17},
		{name: "no most", data: map[string]string{"max-non-active-revisions": "disabled", "retain-since-create-time": "disabled", "retain-since-last-active-time": "disabled"},
			all: hours(make([][2]int, 3000)...), at: 10000},
		{name: "everything", data: map[string]string{"min-non-active-revisions": "0", "retain-since-create-time": "0s", "retain-since-last-active-time": "0s"},
			all: hours([2]int{0, 0}, [2]int{0, 1}), at: 1, gone: []string{"r0", "r1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := slices.Clone(tc.all)
			gone, next := collect(tc.all, config(t, tc.data), t0.Add(time.Duration(tc.at)*time.Hour))
			if !slices.Equal(gone, tc.gone) {
				t.Errorf("gone are %v, want %v", gone, tc.gone)
			}
			if got := next.Sub(t0).Hours(); next.IsZero() != (tc.next == 0) || tc.next != 0 && got != float64(tc.next) {
				t.Errorf("next is %s, want %d h", next, tc.next)
			}
			if !slices.Equal(before, tc.all) {
				t.Error("the input was changed")
			}
		})
	}
}

// TestTwoThousand follows 2,000 Revisions, one made every quarter of an hour and idle an hour later, by a clock that
// moves only to when collect asks for: at each moment exactly those are there that config-gc keeps.
func TestTwoThousand(t *testing.T) {
	s := config(t, map[string]string{"min-non-active-revisions": "5", "max-non-active-revisions": "100"})
	var all []candidate
	made, deleted, looks := 0, 0, 0
	next := time.Time{}
	for ; made < 2000 || !next.IsZero(); looks++ {
		var now time.Time
		made1 := t0.Add(time.Duration(made) * 15 * time.Minute)
		switch {
		case made < 2000 && (next.IsZero() || !made1.After(next)):
			now = made1
			all = append(all, candidate{fmt.Sprintf("r%04d", made), now, now.Add(time.Hour)})
			made++
		default:
			now = next
		}
		var gone []string
		gone, next = collect(all, s, now)
		deleted += len(gone)
		all = slices.DeleteFunc(all, func(c candidate) bool { return slices.Contains(gone, c.name) })
		if len(all) > 100 || made >= 5 && len(all) < 5 {
			t.Fatalf("%d Revisions are kept at %s", len(all), now)
		}
		for _, c := range all {
			if now.Sub(c.created) > 48*time.Hour+15*time.Minute && len(all) > 5 {
				t.Fatalf("%s is still there at %s", c.name, now)
			}
		}
		if looks > 10000 {
			t.Fatal("it does not come to an end")
		}
	}
	if len(all) != 5 || all[0].name != "r1995" || deleted != 1995 {
		t.Errorf("at the end %d are left, %d deleted", len(all), deleted)
	}
	t.Logf("%d looks", looks)
}

func TestCollectProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := func(name string, low int64) int64 {
			if rapid.Bool().Draw(t, name+" disabled") {
				return settings.Never
			}
			return low + rapid.Int64Range(0, 10).Draw(t, name)
		}
		s := settings.GC{MinNonActiveRevisions: rapid.Int64Range(0, 5).Draw(t, "min")}
		s.MaxNonActiveRevisions = limit("max", s.MinNonActiveRevisions)
		for _, d := range []*time.Duration{&s.RetainSinceCreateTime, &s.RetainSinceLastActiveTime} {
			if *d = settings.Never; rapid.Bool().Draw(t, "retain") {
				*d = time.Duration(rapid.Int64Range(0, 20).Draw(t, "hours")) * time.Hour
			}
		}
		var all []candidate
		for i := range rapid.IntRange(0, 20).Draw(t, "revisions") {
			created := t0.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "created")) * time.Hour)
			all = append(all, candidate{fmt.Sprint("r", i), created, created.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "active")) * time.Hour)})
		}
		now := t0.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "now")) * time.Hour)
		gone, next := collect(all, s, now)
		left := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return slices.Contains(gone, c.name) })
		if int64(len(left)) < min(s.MinNonActiveRevisions, int64(len(all))) {
			t.Fatalf("%d of %d are left, the least is %d", len(left), len(all), s.MinNonActiveRevisions)
		}
		if s.MaxNonActiveRevisions >= 0 && int64(len(left)) > s.MaxNonActiveRevisions {
			t.Fatalf("%d are left, the most is %d", len(left), s.MaxNonActiveRevisions)
		}
		if again, _ := collect(left, s, now); len(again) > 0 {
			t.Fatalf("a second look deletes %v", again)
		}
		if early, _ := collect(left, s, now.Add(time.Hour)); len(early) > 0 && (next.IsZero() || next.After(now.Add(time.Hour))) {
			t.Fatalf("an hour later %v go, but the next look is at %s", early, next)
		}
		if !next.IsZero() {
			if !next.After(now) {
				t.Fatalf("next is %s", next)
			}
			if late, _ := collect(left, s, next); len(late) == 0 {
				t.Fatalf("at %s, which was asked for, nothing goes", next)
			}
		}
	})
}

func BenchmarkCollect(b *testing.B) {
	var all []candidate
	for i := range 2000 {
		all = append(all, candidate{fmt.Sprint("r", i), t0, t0.Add(time.Duration(i%977) * time.Second)})
	}
	s := settings.Default().GC
	b.ReportAllocs()
	for b.Loop() {
		collect(all, s, t0)
	}
}
