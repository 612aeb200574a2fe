package serving

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServed(t *testing.T) {
	at := func(second int) metav1.Time { return metav1.NewTime(time.Unix(1_700_000_000+int64(second), 0)) }
	ended := func(begun int) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: at(begun), FinishedAt: at(begun + 10)}}
	}
	for name, c := range map[string]struct {
		phase      corev1.PodPhase
		since      int
		containers []corev1.ContainerStatus
		want       bool
	}{
		"it never ended":               {since: 0, containers: []corev1.ContainerStatus{{}}},
		"it ended before it was ready": {since: 0, containers: []corev1.ContainerStatus{{State: ended(1)}}},
		"it was ready":                 {since: 11, containers: []corev1.ContainerStatus{{State: ended(1)}}, want: true},
		"and runs again":               {since: 11, containers: []corev1.ContainerStatus{{LastTerminationState: ended(1)}}, want: true},
		"and ended again":              {since: 11, containers: []corev1.ContainerStatus{{State: ended(12), LastTerminationState: ended(1)}}},
		"another one was":              {since: 11, containers: []corev1.ContainerStatus{{State: ended(1)}, {State: ended(12)}}},
		"another one never ended":      {since: 11, containers: []corev1.ContainerStatus{{State: ended(1)}, {}}, want: true},
		"it was and is not run again":  {phase: corev1.PodFailed, since: 11, containers: []corev1.ContainerStatus{{State: ended(1)}}},
	} {
		p := &corev1.Pod{Status: corev1.PodStatus{
			Phase: c.phase, ContainerStatuses: c.containers,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at(c.since)}},
		}}
		if got := Served(p); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
