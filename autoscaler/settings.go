package autoscaler

import (
	"errors"

	"ebb.dev/ebb/apis/serving"
	servingv1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/window"
)

// FromStore gives the settings of revisions from the ConfigMaps in store and the layers of annotations, the last
// of which wins; it is what [Reconciler.Settings] takes. Bad annotations count as absent (admission refuses them).
func FromStore(store *settings.Store) func(*servingv1.Revision, ...map[string]string) (Settings, error) {
	return func(rev *servingv1.Revision, layers ...map[string]string) (Settings, error) {
		all := store.Load()
		if all == nil {
			return Settings{}, errors.New("the settings are not loaded yet")
		}
		g := &all.Autoscaler
		limit := int64(0)
		if c := rev.Spec.ContainerConcurrency; c != nil {
			limit = *c
		}
		a, _ := settings.ParseAutoscaling(*g, limit, layers...)
		return Settings{
			Settings: decision.Settings{
				Target: a.Total, Utilization: a.Utilization, TargetBurstCapacity: a.TargetBurstCapacity,
				MinScale: int(a.MinScale), MaxScale: int(a.MaxScale), InitialScale: int(a.InitialScale), ActivationScale: int(a.ActivationScale),
				MaxScaleUpRate: g.MaxScaleUpRate, MaxScaleDownRate: g.MaxScaleDownRate, PanicThreshold: a.PanicThresholdPercentage / 100,
				StableWindow: a.Window, ScaleDownDelay: a.ScaleDownDelay, Retention: a.PodRetention,
				ScaleToZero: g.EnableScaleToZero, Metric: a.Metric,
			},
			Window:  window.Shape{Stable: a.Window, Panic: a.PanicWindow(), Exponential: a.Aggregation == serving.AggregationWeightedExponential},
			Grace:   g.ScaleToZeroGracePeriod,
			Foreign: a.Class != serving.ClassKPA,
		}, nil
	}
}
