package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
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
		case isReady(p), serving.Served(p), untried(p):
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

func containers(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}
