package settings

import (
	"math"
	"time"

	"ebb.dev/ebb/apis/serving"
)

// Limits of what scales a Revision, in ConfigMaps and annotations alike.
const (
	// TargetMin is the least target of a pod, in units of the metric.
	TargetMin = 0.01
	// WindowMin and WindowMax bound the stable window.
	WindowMin = 6 * time.Second
	WindowMax = time.Hour
	// BacklogTarget is the events, waiting or in flight, for each pod with MetricBacklog where no annotation says
	// it. All of a target is used then, unless an annotation says otherwise: what waits leaves no burst to keep room for.
	BacklogTarget = 10
)

// Autoscaler is config-autoscaler.
type Autoscaler struct {
	// TargetUtilization is the part of the target to aim at, (0, 1].
	TargetUtilization float64
	// ConcurrencyTarget is the requests in flight a pod should carry where neither
	// annotation nor containerConcurrency says it.
	ConcurrencyTarget float64
	// RPSTarget is the requests per second a pod should carry, for metric rps.
	RPSTarget float64
	// TargetBurstCapacity is requests; -1 keeps the activator in the path.
	TargetBurstCapacity float64
	// StableWindow is the time averages are taken over.
	StableWindow time.Duration
	// PanicWindowPercentage is percent of StableWindow, 1..100.
	PanicWindowPercentage float64
	// PanicThresholdPercentage is percent of the ready pods, 110..1000.
	PanicThresholdPercentage float64
	// MaxScaleUpRate and MaxScaleDownRate bound one step, as factors above 1.
	MaxScaleUpRate   float64
	MaxScaleDownRate float64
	// EnableScaleToZero allows the last pod to go.
	EnableScaleToZero bool
	// ScaleToZeroGracePeriod is how long the last pod may stay while traffic moves away from it.
	ScaleToZeroGracePeriod time.Duration
	// PodRetention is how long the last pod is kept after the wish is zero.
	PodRetention time.Duration
	// Class is ClassKPA, ClassHPA or a foreign one.
	Class string
	// ActivatorCapacity is the requests one activator holds.
	ActivatorCapacity float64
	// InitialScale is the pods a new Revision starts with.
	InitialScale int32
	// AllowZeroInitialScale allows that to be 0.
	AllowZeroInitialScale bool
	// MinScale and MaxScale are pods; 0 is no bound.
	MinScale int32
	MaxScale int32
	// MaxScaleLimit is the most a Revision may ask for; 0 is no limit.
	MaxScaleLimit int32
	// ScaleDownDelay is how long a lower wish must last.
	ScaleDownDelay time.Duration
}

func parseAutoscaler(p *parser) Autoscaler {
	a := Autoscaler{
		TargetUtilization:        70,
		ConcurrencyTarget:        100,
		RPSTarget:                200,
		TargetBurstCapacity:      211,
		StableWindow:             time.Minute,
		PanicWindowPercentage:    10,
		PanicThresholdPercentage: 200,
		MaxScaleUpRate:           1000,
		MaxScaleDownRate:         2,
		EnableScaleToZero:        true,
		ScaleToZeroGracePeriod:   30 * time.Second,
		Class:                    serving.ClassKPA,
		ActivatorCapacity:        100,
		InitialScale:             1,
	}
	p.float("container-concurrency-target-percentage", &a.TargetUtilization, 0.01, 100)
	if a.TargetUtilization > 1 { // up to 1 it is a fraction already
		a.TargetUtilization /= 100
	}
	p.float("container-concurrency-target-default", &a.ConcurrencyTarget, TargetMin, math.MaxFloat64)
	if a.ConcurrencyTarget*a.TargetUtilization < TargetMin {
		p.bad("container-concurrency-target-default", "with container-concurrency-target-percentage it is a target below %g", TargetMin)
	}
	p.float("requests-per-second-target-default", &a.RPSTarget, TargetMin, math.MaxFloat64)
	p.float("target-burst-capacity", &a.TargetBurstCapacity, -1, math.MaxFloat64)
	if a.TargetBurstCapacity < 0 && a.TargetBurstCapacity != -1 {
		p.bad("target-burst-capacity", "%g is neither -1 nor 0 or more", a.TargetBurstCapacity)
	}
	p.duration("stable-window", &a.StableWindow, WindowMin, WindowMax)
	if a.StableWindow%time.Second != 0 {
		p.bad("stable-window", "%s is not whole seconds", a.StableWindow)
	}
	p.float("panic-window-percentage", &a.PanicWindowPercentage, 1, 100)
	p.float("panic-threshold-percentage", &a.PanicThresholdPercentage, 110, 1000)
	p.float("max-scale-up-rate", &a.MaxScaleUpRate, 1, math.MaxFloat64)
	if a.MaxScaleUpRate <= 1 {
		p.bad("max-scale-up-rate", "%g is not above 1", a.MaxScaleUpRate)
	}
	p.float("max-scale-down-rate", &a.MaxScaleDownRate, 1, math.MaxFloat64)
	if a.MaxScaleDownRate <= 1 {
		p.bad("max-scale-down-rate", "%g is not above 1", a.MaxScaleDownRate)
	}
	p.boolean("enable-scale-to-zero", &a.EnableScaleToZero)
	p.duration("scale-to-zero-grace-period", &a.ScaleToZeroGracePeriod, time.Nanosecond, 24*time.Hour)
	p.duration("scale-to-zero-pod-retention-period", &a.PodRetention, 0, WindowMax)
	p.text("pod-autoscaler-class", &a.Class)
	p.float("activator-capacity", &a.ActivatorCapacity, 1, math.MaxFloat64)
	p.boolean("allow-zero-initial-scale", &a.AllowZeroInitialScale)
	p.scale("initial-scale", &a.InitialScale)
	if a.InitialScale == 0 && !a.AllowZeroInitialScale {
		p.bad("initial-scale", "0 needs allow-zero-initial-scale: \"true\"")
	}
	p.scale("min-scale", &a.MinScale)
	p.scale("max-scale", &a.MaxScale)
	p.scale("max-scale-limit", &a.MaxScaleLimit)
	if a.MaxScaleLimit > 0 && (a.MaxScale == 0 || a.MaxScale > a.MaxScaleLimit) {
		p.bad("max-scale", "%d is outside 1..max-scale-limit %d", a.MaxScale, a.MaxScaleLimit)
	}
	if a.MaxScale > 0 && a.MinScale > a.MaxScale {
		p.bad("min-scale", "%d is above max-scale %d", a.MinScale, a.MaxScale)
	}
	p.duration("scale-down-delay", &a.ScaleDownDelay, 0, WindowMax)
	if a.ScaleDownDelay%time.Second != 0 {
		p.bad("scale-down-delay", "%s is not whole seconds", a.ScaleDownDelay)
	}
	p.accept("tick-interval", "enable-graceful-scaledown") // read by older releases of Knative
	return a
}
