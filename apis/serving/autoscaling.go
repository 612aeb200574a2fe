package serving

// AutoscalingGroup is the prefix of the annotations that tune how a Revision scales.
const AutoscalingGroup = "autoscaling.knative.dev"

// Autoscaling annotations. Each is also accepted with its last part in camelCase
// (min-scale as minScale); settings.ParseAutoscaling is the one place that reads them.
const (
	// ClassAnnotation: ClassKPA or ClassHPA.
	ClassAnnotation = AutoscalingGroup + "/class"
	// MetricAnnotation: what is counted; see the Metric values.
	MetricAnnotation = AutoscalingGroup + "/metric"
	// TargetAnnotation: units of the metric a pod should carry; at least 0.01.
	TargetAnnotation = AutoscalingGroup + "/target"
	// TargetUtilizationAnnotation: percent of the target to aim at, 1..100.
	TargetUtilizationAnnotation = AutoscalingGroup + "/target-utilization-percentage"
	// TargetBurstCapacityAnnotation: requests the pods must be able to take at once
	// before the activator leaves the path; -1 keeps it there.
	TargetBurstCapacityAnnotation = AutoscalingGroup + "/target-burst-capacity"
	// MinScaleAnnotation: least pods, 0..
	MinScaleAnnotation = AutoscalingGroup + "/min-scale"
	// MaxScaleAnnotation: most pods; 0 is no bound.
	MaxScaleAnnotation = AutoscalingGroup + "/max-scale"
	// InitialScaleAnnotation: pods a new Revision starts with.
	InitialScaleAnnotation = AutoscalingGroup + "/initial-scale"
	// ActivationScaleAnnotation: least pods when there are any, 2..
	ActivationScaleAnnotation = AutoscalingGroup + "/activation-scale"
	// ScaleDownDelayAnnotation: how long a lower wish must last, 0s..1h, whole seconds.
	ScaleDownDelayAnnotation = AutoscalingGroup + "/scale-down-delay"
	// PodRetentionAnnotation: how long the last pod is kept after the wish is zero, 0s..1h.
	PodRetentionAnnotation = AutoscalingGroup + "/scale-to-zero-pod-retention-period"
	// WindowAnnotation: the stable window, 6s..1h.
	WindowAnnotation = AutoscalingGroup + "/window"
	// PanicWindowAnnotation: percent of the stable window, 1..100.
	PanicWindowAnnotation = AutoscalingGroup + "/panic-window-percentage"
	// PanicThresholdAnnotation: percent of the ready pods at which panic starts, 110..1000.
	PanicThresholdAnnotation = AutoscalingGroup + "/panic-threshold-percentage"
	// AggregationAnnotation: AggregationLinear or AggregationWeightedExponential.
	AggregationAnnotation = AutoscalingGroup + "/metric-aggregation-algorithm"
)

// Values of ClassAnnotation.
const (
	ClassKPA = "kpa.autoscaling.knative.dev"
	ClassHPA = "hpa.autoscaling.knative.dev"
)

// Values of MetricAnnotation. ClassHPA takes any other name as a custom metric. MetricBacklog is for ClassKPA alone.
const (
	MetricConcurrency = "concurrency"
	MetricRPS         = "rps"
	MetricBacklog     = "ebb.dev/backlog" // events that wait or are in flight
	MetricCPU         = "cpu"
	MetricMemory      = "memory"
)

// Values of AggregationAnnotation.
const (
	AggregationLinear              = "linear"
	AggregationWeightedExponential = "weighted-exponential"
)
