package v1

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // machines without a database of time zones know them too

	"github.com/robfig/cron/v3"
)

// Schedule is a schedule of ticks. The ticks are the same whoever asks and whenever: they do not depend on
// when a program was started.
//
// +kubebuilder:object:generate=false
type Schedule struct {
	cron cron.Schedule
	zone *time.Location
}

// ScheduleError says which of the two fields is wrong, "schedule" or "timezone", and why.
//
// +kubebuilder:object:generate=false
type ScheduleError struct{ Field, Detail string }

func (e *ScheduleError) Error() string { return e.Field + ": " + e.Detail }

const maxSchedule = 256 // bytes

// ParseSchedule reads a cron schedule with optional seconds, and a time zone; "" is UTC.
func ParseSchedule(schedule, zone string) (*Schedule, *ScheduleError) {
	location, err := time.LoadLocation(zone) // "" is UTC
	if err != nil || zone == "Local" {
		return nil, &ScheduleError{"timezone", "is not a name of the IANA time zone database, like Europe/Berlin"}
	}
	switch {
	case len(schedule) > maxSchedule:
		return nil, &ScheduleError{"schedule", fmt.Sprintf("is longer than %d bytes", maxSchedule)}
	case strings.Contains(schedule, "TZ="):
		return nil, &ScheduleError{"schedule", "must be without a time zone: give timezone instead"}
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	parsed, err := parser.Parse(schedule)
	if err != nil {
		return nil, &ScheduleError{"schedule", "is not a cron schedule like \"*/5 * * * *\" or, with seconds, \"*/30 * * * * *\": " + err.Error()}
	}
	s := &Schedule{cron: parsed, zone: location}
	if s.Next(time.Unix(0, 0)).IsZero() {
		return nil, &ScheduleError{"schedule", "has no time at all, like February 30th"}
	}
	return s, nil
}

// Next is the first tick after a time; zero if there is none within five years.
func (s *Schedule) Next(after time.Time) time.Time {
	if every, ok := s.cron.(cron.ConstantDelaySchedule); ok {
		// Counted from 1970, not from now.
		return time.Unix(0, 0).Add(after.Sub(time.Unix(0, 0)).Truncate(every.Delay) + every.Delay).UTC()
	}
	next := s.cron.Next(after.In(s.zone))
	if next.IsZero() {
		return time.Time{}
	}
	return next.UTC()
}
