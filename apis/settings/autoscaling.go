package settings

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/serving/nearest"
)

// Autoscaling is how one Revision scales: its annotations over the settings.
type Autoscaling struct {
	// Class is ClassKPA, ClassHPA or a foreign one that Ebb leaves alone.
	Class string
	// Metric is MetricConcurrency, MetricRPS or MetricBacklog; for ClassHPA also MetricCPU, MetricMemory or a custom one.
	Metric string
	// Total is the units of the metric one pod can carry: requests in flight or requests a
	// second. For ClassHPA it is what the annotation says: percent of the request of cpu, Mi
	// of memory, units of a custom metric; 0 where there is none.
	Total float64
	// Utilization is the part of Total to aim at, (0, 1].
	Utilization float64
	// TargetBurstCapacity is requests; -1 keeps the activator in the path.
	TargetBurstCapacity float64
	// MinScale and MaxScale are pods; 0 is no bound.
	MinScale, MaxScale int32
	// InitialScale is the pods a new Revision starts with.
	InitialScale int32
	// ActivationScale is the least pods when there are any; 0 is unset.
	ActivationScale int32
	// ScaleDownDelay is how long a lower wish must last.
	ScaleDownDelay time.Duration
	// PodRetention is how long the last pod is kept after the wish is zero.
	PodRetention time.Duration
	// Window is the stable window, WindowMin..WindowMax.
	Window time.Duration
	// PanicWindowPercentage is percent of Window, 1..100.
	PanicWindowPercentage float64
	// PanicThresholdPercentage is percent of the ready pods, 110..1000.
	PanicThresholdPercentage float64
	// Aggregation is AggregationLinear or AggregationWeightedExponential.
	Aggregation string
}

// Target is what each pod should carry: Total x Utilization, at least TargetMin.
func (a *Autoscaling) Target() float64 { return max(TargetMin, a.Total*a.Utilization) }

// PanicWindow is the panic window: its percentage of Window, at least one second.
func (a *Autoscaling) PanicWindow() time.Duration {
	return max(time.Second, time.Duration(float64(a.Window)*a.PanicWindowPercentage/100))
}

// AnnotationError says what is wrong with one annotation.
type AnnotationError struct {
	// Key as it was written.
	Key string
	// Value as it was written.
	Value string
	// Message without key and value.
	Message string
}

func (e AnnotationError) Error() string {
	return fmt.Sprintf("annotation %s: %q %s", e.Key, e.Value, e.Message)
}

// ParseAutoscaling gives the scaling of a Revision with the containerConcurrency
// (requests; 0 is no limit), from layers of annotations of which a later one wins. Keys count with their
// last part in kebab-case or camelCase; where one layer has both, kebab-case wins. A bad
// annotation is reported, in a fixed order, and counts as absent: the layer before it
// holds. So the value returned can always be used. Which object comes before which is said by v1.ScalingLayers.
func ParseAutoscaling(s Autoscaler, containerConcurrency int64, layers ...map[string]string) (Autoscaling, []AnnotationError) {
	p := annotations{layers: layers}
	a := Autoscaling{
		Class:                    s.Class,
		TargetBurstCapacity:      s.TargetBurstCapacity,
		MinScale:                 s.MinScale,
		MaxScale:                 s.MaxScale,
		InitialScale:             s.InitialScale,
		ScaleDownDelay:           s.ScaleDownDelay,
		PodRetention:             s.PodRetention,
		Window:                   s.StableWindow,
		Utilization:              s.TargetUtilization,
		PanicWindowPercentage:    s.PanicWindowPercentage,
		PanicThresholdPercentage: s.PanicThresholdPercentage,
		Aggregation:              serving.AggregationLinear,
	}
	p.take(serving.ClassAnnotation, func(v string) string {
		if strings.HasSuffix(v, ".knative.dev") && v != serving.ClassKPA && v != serving.ClassHPA || v == "" {
			return fmt.Sprintf("is not %s or %s", serving.ClassKPA, serving.ClassHPA)
		}
		a.Class = v
		return ""
	})
	p.metric(&a)
	p.target(&a, s, float64(containerConcurrency))
	p.float(serving.TargetBurstCapacityAnnotation, &a.TargetBurstCapacity, func(v float64) string {
		if v >= 0 || v == -1 {
			return ""
		}
		return "is neither -1 nor 0 or more"
	})
	p.scales(&a, s)
	p.duration(serving.ScaleDownDelayAnnotation, &a.ScaleDownDelay, 0, true)
	p.duration(serving.PodRetentionAnnotation, &a.PodRetention, 0, false)
	p.duration(serving.WindowAnnotation, &a.Window, WindowMin, true)
	p.float(serving.PanicWindowAnnotation, &a.PanicWindowPercentage, within(1, 100))
	p.float(serving.PanicThresholdAnnotation, &a.PanicThresholdPercentage, within(110, 1000))
	if a.Class == serving.ClassKPA {
		p.take(serving.AggregationAnnotation, func(v string) string {
			switch v {
			case serving.AggregationLinear, "": // the public admission takes it empty
				a.Aggregation = serving.AggregationLinear
			case serving.AggregationWeightedExponential, "weightedExponential":
				a.Aggregation = serving.AggregationWeightedExponential
			default:
				return fmt.Sprintf("is not %s or %s", serving.AggregationLinear, serving.AggregationWeightedExponential)
			}
			return ""
		})
	}
	return a, p.errs
}

// annotations reads layers of annotations and collects what is wrong.
type annotations struct {
	layers []map[string]string
	errs   []AnnotationError
}

func (p *annotations) bad(key, value, format string, args ...any) {
	p.errs = append(p.errs, AnnotationError{key, value, fmt.Sprintf(format, args...)})
}

// take hands out the values of a key, from the last layer that has it to the first, until
// one is good: wrong says what is wrong with a value, "" for nothing. It returns whether one was taken.
func (p *annotations) take(key string, wrong func(value string) string) bool {
	for _, layer := range slices.Backward(p.layers) {
		v, written, ok := lookup(layer, key)
		if !ok {
			continue
		}
		why := wrong(v)
		if why == "" {
			return true
		}
		p.bad(written, v, "%s", why)
	}
	return false
}

// get returns the value of a key in the last layer that has it, and the key as it was written.
func (p *annotations) get(key string) (value, written string, ok bool) {
	for _, layer := range slices.Backward(p.layers) {
		if v, written, ok := lookup(layer, key); ok {
			return v, written, true
		}
	}
	return "", key, false
}

// lookup finds a key of one object's annotations in either spelling, kebab-case first.
func lookup(layer map[string]string, key string) (value, written string, ok bool) {
	if len(layer) == 0 {
		return "", key, false
	}
	if v, ok := layer[key]; ok {
		return v, key, true
	}
	for k, v := range layer {
		if isCamelCase(k, key) {
			return v, k, true
		}
	}
	return "", key, false
}

// isCamelCase says whether written is key with its last part in camelCase:
// group/twoWords of group/two-words.
func isCamelCase(written, key string) bool {
	i, afterDash, inName := 0, false, false
	for _, c := range []byte(key) {
		if c == '-' && inName {
			afterDash = true
			continue
		}
		if afterDash {
			c, afterDash = c-'a'+'A', false
		}
		inName = inName || c == '/'
		if i >= len(written) || written[i] != c {
			return false
		}
		i++
	}
	return i == len(written)
}

func (p *annotations) metric(a *Autoscaling) {
	a.Metric = serving.MetricConcurrency
	if a.Class == serving.ClassHPA {
		a.Metric = serving.MetricCPU
	}
	p.take(serving.MetricAnnotation, func(v string) string {
		switch {
		case a.Class == serving.ClassKPA && v != serving.MetricConcurrency && v != serving.MetricRPS && v != serving.MetricBacklog:
			return fmt.Sprintf("is not %s, %s or %s, which %s takes", serving.MetricConcurrency, serving.MetricRPS, serving.MetricBacklog, serving.ClassKPA)
		case a.Class == serving.ClassHPA && v == serving.MetricBacklog:
			return fmt.Sprintf("is for %s alone", serving.ClassKPA)
		case v == "":
			return "is empty"
		}
		a.Metric = v
		return ""
	})
}

// target is total = annotation, else containerConcurrency, else the default; an
// annotation never asks of a pod what its containerConcurrency does not admit.
func (p *annotations) target(a *Autoscaling, s Autoscaler, concurrency float64) {
	switch {
	case a.Class == serving.ClassHPA:
	case a.Metric == serving.MetricRPS:
		a.Total = s.RPSTarget
	case a.Metric == serving.MetricBacklog:
		a.Total = BacklogTarget
		a.Utilization = 1
	default:
		a.Total = s.ConcurrencyTarget
		if concurrency > 0 {
			a.Total = concurrency
		}
	}
	p.float(serving.TargetAnnotation, &a.Total, func(v float64) string {
		if v >= TargetMin {
			return ""
		}
		return fmt.Sprintf("is below %g", TargetMin)
	})
	if a.Class != serving.ClassHPA && a.Metric == serving.MetricConcurrency && concurrency > 0 {
		a.Total = min(a.Total, concurrency)
	}
	percent := a.Utilization * 100
	p.float(serving.TargetUtilizationAnnotation, &percent, within(1, 100))
	a.Utilization = percent / 100
}

func (p *annotations) scales(a *Autoscaling, s Autoscaler) {
	minGiven := p.scale(serving.MinScaleAnnotation, &a.MinScale, 0)
	maxGiven := p.scale(serving.MaxScaleAnnotation, &a.MaxScale, 0)
	if v, key, _ := p.get(serving.MaxScaleAnnotation); maxGiven && s.MaxScaleLimit > 0 {
		if a.MaxScale == 0 || a.MaxScale > s.MaxScaleLimit {
			p.bad(key, v, "is outside 1..%d, the limit of the cluster", s.MaxScaleLimit)
			a.MaxScale = s.MaxScale
		}
	}
	if a.MaxScale > 0 && a.MinScale > a.MaxScale {
		v, key, _ := p.get(serving.MinScaleAnnotation)
		switch {
		case minGiven && maxGiven:
			p.bad(key, v, "is above max-scale %d", a.MaxScale)
			a.MinScale = a.MaxScale
		case minGiven && s.MaxScaleLimit > 0:
			// The limit of the cluster is not raised by an annotation.
			if a.MinScale > s.MaxScaleLimit {
				p.bad(key, v, "is above %d, the limit of the cluster", s.MaxScaleLimit)
				a.MinScale = s.MaxScaleLimit
			}
			a.MaxScale = a.MinScale
		case minGiven:
			a.MaxScale = a.MinScale
		default:
			a.MinScale = a.MaxScale
		}
	}
	lowest := int32(1)
	if s.AllowZeroInitialScale {
		lowest = 0
	}
	p.scale(serving.InitialScaleAnnotation, &a.InitialScale, lowest)
	if p.scale(serving.ActivationScaleAnnotation, &a.ActivationScale, 2) {
		v, key, _ := p.get(serving.ActivationScaleAnnotation)
		switch {
		case a.ActivationScale < a.MinScale:
			p.bad(key, v, "is below min-scale %d", a.MinScale)
			a.ActivationScale = 0
		case a.MaxScale > 0 && a.ActivationScale > a.MaxScale:
			p.bad(key, v, "is above max-scale %d", a.MaxScale)
			a.ActivationScale = 0
		}
	}
}

// scale reads a number of pods; it returns whether a good one is there.
func (p *annotations) scale(key string, into *int32, lowest int32) bool {
	return p.take(key, func(v string) string {
		n, err := strconv.ParseInt(v, 10, 32)
		switch {
		case err == nil && n >= int64(lowest):
			*into = int32(n)
			return ""
		case err == nil && key == serving.InitialScaleAnnotation && n == 0:
			return "is allowed only where " + ConfigAutoscaler + " has allow-zero-initial-scale"
		}
		return fmt.Sprintf("is not a whole number %d..%d", lowest, math.MaxInt32)
	})
}

func (p *annotations) float(key string, into *float64, wrong func(float64) string) {
	p.take(key, func(v string) string {
		n, err := parseFloat(v)
		if err != nil {
			return "is not a number"
		}
		why := wrong(n)
		if why == "" {
			*into = n
		}
		return why
	})
}

func within(low, high float64) func(float64) string {
	return func(v float64) string {
		if v >= low && v <= high {
			return ""
		}
		return fmt.Sprintf("is outside %g..%g", low, high)
	}
}

func (p *annotations) duration(key string, into *time.Duration, low time.Duration, whole bool) {
	p.take(key, func(v string) string {
		d, err := time.ParseDuration(v)
		switch {
		case err != nil:
			return "is not a duration like 30s or 5m"
		case d < low || d > WindowMax:
			return fmt.Sprintf("is outside %s..%s", low, WindowMax)
		case whole && d%time.Second != 0:
			return "is not whole seconds"
		}
		*into = d
		return ""
	})
}

// AutoscalingKeys are the annotations of the autoscaling group in kebab-case.
func AutoscalingKeys() []string {
	return []string{
		serving.ClassAnnotation, serving.MetricAnnotation, serving.TargetAnnotation, serving.TargetUtilizationAnnotation,
		serving.TargetBurstCapacityAnnotation, serving.MinScaleAnnotation, serving.MaxScaleAnnotation,
		serving.InitialScaleAnnotation, serving.ActivationScaleAnnotation, serving.ScaleDownDelayAnnotation,
		serving.PodRetentionAnnotation, serving.WindowAnnotation, serving.PanicWindowAnnotation,
		serving.PanicThresholdAnnotation, serving.AggregationAnnotation,
	}
}

// KnownAutoscaling says whether a key of the autoscaling group means something, and if
// not, the key that was probably meant ("" for none).
func KnownAutoscaling(key string) (known bool, like string) {
	keys := AutoscalingKeys()
	for _, k := range keys {
		if key == k || isCamelCase(key, k) {
			return true, ""
		}
	}
	return false, nearest.Name(key, keys)
}
