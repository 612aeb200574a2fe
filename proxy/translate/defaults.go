package translate

import (
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Here is all that translation takes from the settings.

func defaultTimeoutSeconds(s *settings.Settings) int64 { return s.Defaults.TimeoutSeconds }

// activatorCapacity is how many requests at once one activator is meant to take; at least 1.
func activatorCapacity(s *settings.Settings) float64 { return max(s.Autoscaler.ActivatorCapacity, 1) }

// targetBurstCapacity is the Revision's own, or the default; -1 keeps the activator in
// the path. An annotation that makes no sense counts as absent: admission reports it.
func targetBurstCapacity(rev *v1.Revision, s *settings.Settings) float64 {
	scaling, _ := settings.ParseAutoscaling(s.Autoscaler, concurrency(rev), rev.Annotations)
	return scaling.TargetBurstCapacity
}

// targetConcurrency is how many requests at once the Revision's pods are meant to carry each.
func targetConcurrency(rev *v1.Revision, s *settings.Settings) float64 {
	scaling, _ := settings.ParseAutoscaling(s.Autoscaler, concurrency(rev), rev.Annotations)
	if scaling.Metric != serving.MetricConcurrency {
		return s.Autoscaler.ConcurrencyTarget // requests per second say nothing about how many at once
	}
	return scaling.Total
}
