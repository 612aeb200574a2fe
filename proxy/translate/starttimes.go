package translate

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/proxy/link"
)

// startTimes are when the pod reached the steps of its start; nil where nobody asks.
func startTimes(pod *corev1.Pod, asked bool) *link.StartTimes {
	if !asked {
		return nil
	}
	stamp := func(t time.Time) *timestamppb.Timestamp {
		if t.IsZero() {
			return nil
		}
		return timestamppb.New(t)
	}
	times := serving.PodStartTimes(pod)
	return &link.StartTimes{Created: stamp(times.Created), Scheduled: stamp(times.Scheduled), Pulled: stamp(times.Pulled), Started: stamp(times.Started), Coarse: times.Coarse}
}
