package serve

import (
	"errors"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/autoscaler"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/window"
)

// scalingSettings is how the autoscaler learns what is set for a revision: the
// ConfigMaps, and over them the annotations.
func scalingSettings(store *settings.Store) func(*v1.Revision, ...map[string]string) (autoscaler.Settings, error) {
	return func(revision *v1.Revision, layers ...map[string]string) (autoscaler.Settings, error) {
		all := store.Load().Autoscaler
		concurrency := int64(0)
		if c := revision.Spec.ContainerConcurrency; c != nil {
			concurrency = *c
		}
		a, bad := settings.ParseAutoscaling(all, concurrency, layers...)
		var errs []error
		for _, b := range bad {
			errs = append(errs, b)
		}
		if len(errs) > 0 {
			return autoscaler.Settings{}, errors.Join(errs...)
		}
		return autoscaler.Settings{
			Settings: decision.Settings{
				Target:              a.Total,
				Utilization:         a.Utilization,
				TargetBurstCapacity: a.TargetBurstCapacity,
				MinScale:            int(a.MinScale),
				MaxScale:            int(a.MaxScale),
				InitialScale:        int(a.InitialScale),
				ActivationScale:     int(a.ActivationScale),
				MaxScaleUpRate:      all.MaxScaleUpRate,
				MaxScaleDownRate:    all.MaxScaleDownRate,
				PanicThreshold:      a.PanicThresholdPercentage / 100,
				StableWindow:        a.Window,
				ScaleDownDelay:      a.ScaleDownDelay,
				Retention:           a.PodRetention,
				ScaleToZero:         all.EnableScaleToZero,
				Metric:              a.Metric,
			},
			Window: window.Shape{
				Stable:      a.Window,
				Panic:       a.PanicWindow(),
				Exponential: a.Aggregation == serving.AggregationWeightedExponential,
			},
			Grace:   all.ScaleToZeroGracePeriod,
			Foreign: a.Class != serving.ClassKPA,
		}, nil
	}
}
