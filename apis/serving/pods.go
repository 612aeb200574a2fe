package serving

import (
	corev1 "k8s.io/api/core/v1"
)

// Served says of a pod that is not ready whether it was, until a container of it ended: its readiness ended after the
// last run of each container that has ended had begun. Where a run never was ready, the pod is unready since before it began.
func Served(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodFailed {
		return false
	}
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodReady {
			return endedAfter(p.Status.Conditions[i], p.Status.ContainerStatuses)
		}
	}
	return false
}

func endedAfter(ready corev1.PodCondition, containers []corev1.ContainerStatus) bool {
	ended := 0
	for i := range containers {
		run := containers[i].State.Terminated
		if run == nil {
			run = containers[i].LastTerminationState.Terminated
		}
		if run == nil {
			continue
		}
		ended++
		if !ready.LastTransitionTime.After(run.StartedAt.Time) {
			return false
		}
	}
	return ended > 0
}
