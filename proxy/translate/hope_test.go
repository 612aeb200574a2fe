package translate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// Requests are refused for what a container said only where no pod is left that could serve: one that has not failed, or
// that had been ready until its container ended.
func TestFailureOfPods(t *testing.T) {
	at := func(second int) metav1.Time { return metav1.NewTime(time.Unix(1_700_000_000+int64(second), 0)) }
	now := at(100)
	ended := func(begun int) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ExitCode: 137, StartedAt: at(begun), FinishedAt: at(begun + 10)}
	}
	pod := func(unreadySince int, c corev1.ContainerStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at(unreadySince)}},
			ContainerStatuses: []corev1.ContainerStatus{c},
		}}
	}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(20)}}
	crashed := pod(0, corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended(1)}})
	leaving := pod(0, corev1.ContainerStatus{State: running})
	leaving.DeletionTimestamp = &now
	over := pod(11, corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended(1)}})
	over.Status.Phase = corev1.PodFailed
	for _, c := range []struct {
		name    string
		pods    []*corev1.Pod
		refused bool
	}{
		{"ended at its start", []*corev1.Pod{crashed}, true},
		{"ended at its start, runs again and is not ready", []*corev1.Pod{pod(0, corev1.ContainerStatus{State: running, LastTerminationState: corev1.ContainerState{Terminated: ended(1)}})}, true},
		{"crashes", []*corev1.Pod{pod(0, corev1.ContainerStatus{State: waiting("CrashLoopBackOff"), LastTerminationState: corev1.ContainerState{Terminated: ended(30)}})}, true},
		{"was ready, then crashes before it is", []*corev1.Pod{pod(11, corev1.ContainerStatus{State: waiting("CrashLoopBackOff"), LastTerminationState: corev1.ContainerState{Terminated: ended(12)}})}, true},
		{"was ready and ended", []*corev1.Pod{pod(11, corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended(1)}})}, false},
		{"was ready, ended and runs again", []*corev1.Pod{pod(11, corev1.ContainerStatus{State: running, LastTerminationState: corev1.ContainerState{Terminated: ended(1)}})}, false},
		{"was ready, ended twice and is about to be started", []*corev1.Pod{pod(40, corev1.ContainerStatus{State: waiting("CrashLoopBackOff"), LastTerminationState: corev1.ContainerState{Terminated: ended(30)}})}, false},
		{"was ready and has failed for good", []*corev1.Pod{over}, true},
		{"its image is not found", []*corev1.Pod{pod(0, corev1.ContainerStatus{State: waiting("ErrImagePull")})}, true},
		{"begins", []*corev1.Pod{pod(0, corev1.ContainerStatus{State: waiting("ContainerCreating")})}, false},
		{"runs and is not ready yet", []*corev1.Pod{pod(0, corev1.ContainerStatus{State: running})}, false},
		{"one has ended, another one begins", []*corev1.Pod{crashed, pod(0, corev1.ContainerStatus{State: waiting("PodInitializing")})}, false},
		{"one has ended, another one is leaving", []*corev1.Pod{crashed, leaving}, true},
		{"all are leaving", []*corev1.Pod{leaving}, false},
		{"none", nil, false},
	} {
		rev := &v1.Revision{}
		desired := int32(1)
		rev.Status.DesiredReplicas = &desired
		rev.Status.Conditions.SetFalse(v1.RevisionContainerHealthy, "ExitCode137", "it said nothing", now.Time)
		if got := failure(rev, c.pods); (got != "") != c.refused {
			t.Errorf("%s: %q, want it refused: %v", c.name, got, c.refused)
		}
	}
}
