package settings

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/apis/serving"
)

// Layer is the annotations of one object, for people: "Service hello".
type Layer struct {
	Object      string
	Annotations map[string]string
}

// Annotations are those of layers, in their order, as ParseAutoscaling takes them.
func Annotations(layers ...Layer) []map[string]string {
	out := make([]map[string]string, len(layers))
	for i, l := range layers {
		out[i] = l.Annotations
	}
	return out
}

// Annotation is the value of a key (in kebab-case) in the last layer that has it, in
// either spelling.
func Annotation(key string, layers ...Layer) (value string, ok bool) {
	for _, l := range slices.Backward(layers) {
		if v, _, ok := lookup(l.Annotations, key); ok {
			return v, true
		}
	}
	return "", false
}

// Setting is one thing that decides how a Revision scales.
type Setting struct {
	// Name is the annotation's last part, or the key of config-autoscaler where there is
	// no annotation.
	Name string `json:"name"`
	// Value in effect.
	Value string `json:"value"`
	// From is where the value comes from: an object with an annotation ("Service hello"),
	// "ConfigMap config-autoscaler", "containerConcurrency" or "default".
	From string `json:"from"`
	// Key as it is written there; "" for a default.
	Key string `json:"key,omitempty"`
	// Note says why the value is not what is written there, or what is not taken.
	Note string `json:"note,omitempty"`
}

// explained is one annotation with the key of config-autoscaler that is its default.
type explained struct {
	annotation, key string
	value           func(*Autoscaling) string
}

// decimal leaves out what percents of percents lose.
func decimal(v float64) string { return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64) }

func explainedKeys(a *Autoscaling) []explained {
	number := func(v int32) func(*Autoscaling) string {
		return func(*Autoscaling) string { return strconv.Itoa(int(v)) }
	}
	text := func(v string) func(*Autoscaling) string { return func(*Autoscaling) string { return v } }
	total, utilization := "container-concurrency-target-default", "container-concurrency-target-percentage"
	switch {
	case a.Class == serving.ClassHPA:
		total = ""
	case a.Metric == serving.MetricRPS:
		total = "requests-per-second-target-default"
	case a.Metric == serving.MetricBacklog:
		total, utilization = "", ""
	}
	return []explained{
		{serving.ClassAnnotation, "pod-autoscaler-class", text(a.Class)},
		{serving.MetricAnnotation, "", text(a.Metric)},
		{serving.TargetAnnotation, total, text(decimal(a.Total))},
		{serving.TargetUtilizationAnnotation, utilization, text(decimal(a.Utilization * 100))},
		{serving.TargetBurstCapacityAnnotation, "target-burst-capacity", text(decimal(a.TargetBurstCapacity))},
		{serving.MinScaleAnnotation, "min-scale", number(a.MinScale)},
		{serving.MaxScaleAnnotation, "max-scale", number(a.MaxScale)},
		{serving.InitialScaleAnnotation, "initial-scale", number(a.InitialScale)},
		{serving.ActivationScaleAnnotation, "", number(a.ActivationScale)},
		{serving.ScaleDownDelayAnnotation, "scale-down-delay", text(a.ScaleDownDelay.String())},
		{serving.PodRetentionAnnotation, "scale-to-zero-pod-retention-period", text(a.PodRetention.String())},
		{serving.WindowAnnotation, "stable-window", text(a.Window.String())},
		{serving.PanicWindowAnnotation, "panic-window-percentage", text(decimal(a.PanicWindowPercentage))},
		{serving.PanicThresholdAnnotation, "panic-threshold-percentage", text(decimal(a.PanicThresholdPercentage))},
		{serving.AggregationAnnotation, "", text(a.Aggregation)},
	}
}

// ExplainAutoscaling says of everything that decides how a Revision scales which value is
// in effect and where it comes from. The parameters are those of ParseAutoscaling.
func (s *Store) ExplainAutoscaling(containerConcurrency int64, layers ...Layer) []Setting {
	auto := s.Load().Autoscaler
	a, wrong := ParseAutoscaling(auto, containerConcurrency, Annotations(layers...)...)
	var out []Setting
	for _, e := range explainedKeys(&a) {
		_, name, _ := strings.Cut(e.annotation, "/")
		one := Setting{Name: name, Value: e.value(&a), From: "default"}
		if e.key != "" && s.Given(ConfigAutoscaler, e.key) {
			one.From, one.Key = "ConfigMap "+ConfigAutoscaler, e.key
		}
		if e.annotation == serving.TargetAnnotation && a.Metric == serving.MetricConcurrency && containerConcurrency > 0 {
			one.From, one.Key = "containerConcurrency", ""
		}
		s.explainAnnotation(&one, e.annotation, layers, wrong)
		out = append(out, one)
	}
	for _, one := range []Setting{
		{Name: "max-scale-limit", Value: strconv.Itoa(int(auto.MaxScaleLimit))},
		{Name: "max-scale-up-rate", Value: decimal(auto.MaxScaleUpRate)},
		{Name: "max-scale-down-rate", Value: decimal(auto.MaxScaleDownRate)},
		{Name: "enable-scale-to-zero", Value: strconv.FormatBool(auto.EnableScaleToZero)},
		{Name: "scale-to-zero-grace-period", Value: auto.ScaleToZeroGracePeriod.String()},
		{Name: "allow-zero-initial-scale", Value: strconv.FormatBool(auto.AllowZeroInitialScale)},
		{Name: "activator-capacity", Value: decimal(auto.ActivatorCapacity)},
	} {
		one.From = "default"
		if s.Given(ConfigAutoscaler, one.Name) {
			one.From, one.Key = "ConfigMap "+ConfigAutoscaler, one.Name
		}
		out = append(out, one)
	}
	return out
}

// explainAnnotation lets the last layer that has the annotation be where the value comes from.
func (*Store) explainAnnotation(one *Setting, annotation string, layers []Layer, wrong []AnnotationError) {
	for _, l := range slices.Backward(layers) {
		v, written, ok := lookup(l.Annotations, annotation)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(wrong, func(w AnnotationError) bool { return w.Key == written && w.Value == v }); i >= 0 {
			one.Note = fmt.Sprintf("%s on %s is not taken: %q %s", written, l.Object, v, wrong[i].Message)
			continue
		}
		one.From, one.Key = l.Object, written
		if one.Note == "" && !sameValue(v, one.Value) {
			one.Note = fmt.Sprintf("%s is written there", v)
		}
		return
	}
}

// sameValue compares numbers and durations by what they are.
func sameValue(written, inEffect string) bool {
	if written == inEffect {
		return true
	}
	a, err := strconv.ParseFloat(written, 64)
	b, err2 := strconv.ParseFloat(inEffect, 64)
	if err == nil && err2 == nil {
		return a-b < 1e-9 && b-a < 1e-9
	}
	return sameDuration(written, inEffect)
}

func sameDuration(written, inEffect string) bool {
	a, err := time.ParseDuration(written)
	b, err2 := time.ParseDuration(inEffect)
	return err == nil && err2 == nil && a == b
}
