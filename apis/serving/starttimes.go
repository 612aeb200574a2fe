package serving

import (
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// StartTimesCondition is a condition of a pod whose message says, as the JSON of [StartTimes] and to the
// nanosecond, when the pod reached each step of its start. The node of the embedded
// default sets it; a kubelet does not.
const StartTimesCondition corev1.PodConditionType = "ebb.dev/StartTimes"

// StartTimes are the steps of a pod's start. The zero time is one that is not known.
type StartTimes struct {
	Created   time.Time `json:"created,omitzero"`
	Scheduled time.Time `json:"scheduled,omitzero"`
	// Pulled is when the images of all containers were there. Kubernetes itself does not say.
	Pulled  time.Time `json:"pulled,omitzero"`
	Started time.Time `json:"started,omitzero"` // the last of the containers, for the first time
	// Coarse: the times are Kubernetes' own, in whole seconds, rounded down.
	Coarse bool `json:"coarse,omitempty"`
}

// PodStartTimes reads them from a pod.
func PodStartTimes(pod *corev1.Pod) StartTimes {
	coarse := StartTimes{Created: pod.CreationTimestamp.Time, Coarse: true}
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == StartTimesCondition:
			var fine StartTimes
			if err := json.Unmarshal([]byte(c.Message), &fine); err == nil && !fine.Started.IsZero() {
				return fine
			}
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue:
			coarse.Scheduled = c.LastTransitionTime.Time
		}
	}
	if len(pod.Status.ContainerStatuses) == 0 {
		return coarse
	}
	for i := range pod.Status.ContainerStatuses {
		running := pod.Status.ContainerStatuses[i].State.Running
		if running == nil {
			coarse.Started = time.Time{}
			break
		}
		if running.StartedAt.After(coarse.Started) {
			coarse.Started = running.StartedAt.Time
		}
	}
	return coarse
}
