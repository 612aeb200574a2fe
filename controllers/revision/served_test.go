package revision

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// A Revision whose only pod ends after it was ready stays Ready while it is started again; one that crashes again and again does not.
func TestPodThatServedEnds(t *testing.T) {
	at := func(second int) metav1.Time { return metav1.NewTime(time.Unix(1_700_000_000+int64(second), 0)) }
	one := int32(1)
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &one}}
	pod := func(ready corev1.ConditionStatus, since int, c corev1.ContainerStatus) []corev1.Pod {
		c.Name, c.Ready = "user-container", ready == corev1.ConditionTrue
		return []corev1.Pod{{Status: corev1.PodStatus{
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: at(since)}},
			ContainerStatuses: []corev1.ContainerStatus{c},
		}}}
	}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, StartedAt: at(1), FinishedAt: at(50)}}
	waits := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	status := &v1.RevisionStatus{}
	for _, step := range []struct {
		name string
		pods []corev1.Pod
		want bool
	}{
		{"ready", pod(corev1.ConditionTrue, 2, corev1.ContainerStatus{}), true},
		{"ended", pod(corev1.ConditionFalse, 50, corev1.ContainerStatus{State: ended}), true},
		{"runs again", pod(corev1.ConditionFalse, 50, corev1.ContainerStatus{LastTerminationState: ended}), true},
		{"ready again", pod(corev1.ConditionTrue, 52, corev1.ContainerStatus{LastTerminationState: ended}), true},
		{"crashes", pod(corev1.ConditionFalse, 60, corev1.ContainerStatus{State: waits, LastTerminationState: ended}), false},
		{"ready after all", pod(corev1.ConditionTrue, 80, corev1.ContainerStatus{LastTerminationState: ended}), true},
	} {
		observe(status, d, step.pods, 1, at(100).Time)
		if got := status.Conditions.Get(v1.ConditionReady).IsTrue(); got != step.want {
			t.Errorf("%s: Ready is %v: %+v", step.name, got, status.Conditions)
		}
	}
}
