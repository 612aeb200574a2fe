package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// hopeful says whether requests may wait for one of the pods, though a container has failed: it is one that has not
// failed yet, or it was ready before its container ended, so that it can be again. So they may where all pods are
// about to be replaced.
func hopeful(pods []*corev1.Pod) bool {
	leaving := 0
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
			leaving++
		case isReady(p), served(p), untried(p):
			return true
		}
	}
	return leaving == len(pods)
}

// untried is a pod of which no container has ended, or waits for anything but its beginning.
func untried(p *corev1.Pod) bool {
	return p.Status.Phase != corev1.PodFailed && !slices.ContainsFunc(containers(p), func(c corev1.ContainerStatus) bool {
		w := c.State.Waiting
		return c.State.Terminated != nil || c.LastTerminationState.Terminated != nil ||
			w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing"
	})
}

// served is a pod whose readiness ended in or after the last run of each of its containers that has ended: where a run never was
// ready, the pod is unready since before it began.
func served(p *corev1.Pod) bool {
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	if i < 0 || p.Status.Phase == corev1.PodFailed {
		return false
	}
	since, ended := p.Status.Conditions[i].LastTransitionTime, 0
	for _, c := range p.Status.ContainerStatuses {
		run := c.State.Terminated
		if run == nil {
			run = c.LastTerminationState.Terminated
		}
		if run == nil {
			continue
		}
		ended++
		if !since.After(run.StartedAt.Time) {
			return false
		}
	}
	return ended > 0
}

func containers(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}
