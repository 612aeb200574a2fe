package hpa

import (
	"maps"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

const mi = 1 << 20

// makeHPA is the HorizontalPodAutoscaler of a Revision that scales as a says. windowed
// says that its window is set for it; otherwise Kubernetes' own stabilization holds.
func makeHPA(rev *v1.Revision, a settings.Autoscaling, windowed bool) *autoscalingv2.HorizontalPodAutoscaler {
	labels := map[string]string{}
	maps.Copy(labels, rev.Labels)
	delete(labels, serving.RoutingStateLabel)
	labels[serving.RevisionLabel], labels[serving.RevisionUIDLabel] = rev.Name, string(rev.UID)
	least := int32(1)
	if rev.Labels[serving.RoutingStateLabel] != serving.RoutingStateReserve {
		least = max(least, a.MinScale)
	}
	most := a.MaxScale
	if most == 0 {
		most = math.MaxInt32
	}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{
			Name: rev.Name, Namespace: rev.Namespace, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rev, v1.GroupVersion.WithKind(v1.KindRevision))},
		},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: deploymentName(rev.Name)},
			MinReplicas:    &least, MaxReplicas: max(most, least),
		},
	}
	if a.Total > 0 { // without a target Kubernetes has one of its own, of cpu
		hpa.Spec.Metrics = []autoscalingv2.MetricSpec{metric(a.Metric, a.Total)}
	}
	if windowed {
		seconds := int32(a.Window / time.Second)
		rules := func() *autoscalingv2.HPAScalingRules {
			return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(seconds)}
		}
		hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(), ScaleDown: rules()}
	}
	return hpa
}

// metric aims at target: percent of the request of cpu, Mi of memory a pod, or units of a
// metric of pods.
func metric(name string, target float64) autoscalingv2.MetricSpec {
	average := func(q *resource.Quantity) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: q}
	}
	switch name {
	case serving.MetricCPU:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{
				Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(min(math.Ceil(target), math.MaxInt32)))},
		}}
	case serving.MetricMemory:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceMemory, Target: average(resource.NewQuantity(int64(min(math.Ceil(target), math.MaxInt32))*mi, resource.BinarySI)),
		}}
	}
	return autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: name},
		Target: average(resource.NewQuantity(int64(min(math.Ceil(target), math.MaxInt32)), resource.DecimalSI)),
	}}
}

// deploymentName is the name of a Revision's Deployment.
func deploymentName(revision string) string { return revision + "-deployment" }
