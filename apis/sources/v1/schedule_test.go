package v1

import (
	"strings"
	"testing"
	"time"
)

func TestTicksDoNotDependOnWhoAsks(t *testing.T) {
	for _, of := range []struct {
		schedule, zone string
		after          string
		want           []string
	}{
		{"* * * * *", "", "2026-03-01T10:00:00Z", []string{"2026-03-01T10:01:00Z", "2026-03-01T10:02:00Z"}},
		{"*/30 * * * * *", "", "2026-03-01T10:00:07.5Z", []string{"2026-03-01T10:00:30Z", "2026-03-01T10:01:00Z"}},
		{"@every 90s", "", "2026-03-01T10:00:07Z", []string{"2026-03-01T10:01:30Z", "2026-03-01T10:03:00Z"}},
		{"0 9 * * *", "Europe/Berlin", "2026-03-01T09:00:00Z", []string{"2026-03-02T08:00:00Z"}},
		// The hour from two to three is not there on the day of the change to summer time.
		{"30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", []string{"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
		{"@daily", "America/New_York", "2026-01-01T05:00:00Z", []string{"2026-01-02T05:00:00Z"}},
	} {
		s, wrong := ParseSchedule(of.schedule, of.zone)
		if wrong != nil {
			t.Fatal(wrong)
		}
		at, err := time.Parse(time.RFC3339, of.after)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range of.want {
			at = s.Next(at)
			if got := at.Format(time.RFC3339); got != want {
				t.Errorf("%s in %q: %s, want %s", of.schedule, of.zone, got, want)
			}
		}
	}
}

func TestSchedulesThatAreNone(t *testing.T) {
	for _, of := range []struct{ schedule, zone, field, detail string }{
		{"", "", "schedule", "cron"},
		{"* * *", "", "schedule", "cron"},
		{"61 * * * *", "", "schedule", "cron"},
		{"* * * * *", "Europe/Nowhere", "timezone", "IANA"},
		{"* * * * *", "Local", "timezone", "IANA"},
		{"CRON_TZ=UTC * * * * *", "", "schedule", "timezone"},
		{"TZ=UTC", "", "schedule", "timezone"},
		{"0 0 30 2 *", "", "schedule", "February"},
		{strings.Repeat("*", 1000), "", "schedule", "longer"},
	} {
		s, wrong := ParseSchedule(of.schedule, of.zone)
		if wrong == nil || wrong.Field != of.field || !strings.Contains(wrong.Detail, of.detail) {
			t.Errorf("%q in %q: %v, %v; want an error of %s about %s", of.schedule, of.zone, s, wrong, of.field, of.detail)
		}
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{"* * * * *", "@every 1s", "0 0 31 2 *", "TZ=", "CRON_TZ=UTC", "*/0 * * * *", "1-5/2,7 * * jan mon"} {
		f.Add(s, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, schedule, zone string) {
		s, wrong := ParseSchedule(schedule, zone)
		if wrong != nil {
			return
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		if next := s.Next(now); !next.IsZero() && !next.After(now) {
			t.Errorf("%q in %q: the tick after %v is %v", schedule, zone, now, next)
		}
	})
}
