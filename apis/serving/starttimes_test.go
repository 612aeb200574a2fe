package serving

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodStartTimes(t *testing.T) {
	at := func(seconds int) metav1.Time { return metav1.NewTime(time.Unix(int64(1000+seconds), 0)) }
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(0)}}
	if have := PodStartTimes(pod); have != (StartTimes{Created: at(0).Time, Coarse: true}) {
		t.Errorf("a new pod has %+v", have)
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at(1)}}
	running := func(seconds int) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(seconds)}}}
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{running(3), {}}
	if have := PodStartTimes(pod); have != (StartTimes{Created: at(0).Time, Scheduled: at(1).Time, Coarse: true}) {
		t.Errorf("with one of two containers started it has %+v", have)
	}
	pod.Status.ContainerStatuses[1] = running(2)
	if have := PodStartTimes(pod); have != (StartTimes{Created: at(0).Time, Scheduled: at(1).Time, Started: at(3).Time, Coarse: true}) {
		t.Errorf("with both started it has %+v", have)
	}
	fine := StartTimes{Created: time.Unix(1000, 1).UTC(), Scheduled: time.Unix(1000, 2).UTC(), Pulled: time.Unix(1000, 3).UTC(), Started: time.Unix(1000, 4).UTC()}
	text, err := json.Marshal(fine)
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: StartTimesCondition, Status: corev1.ConditionTrue, Message: string(text)})
	if have := PodStartTimes(pod); have != fine {
		t.Errorf("with the node's own times it has %+v, want %+v", have, fine)
	}
	pod.Status.Conditions[1].Message = "nonsense"
	if have := PodStartTimes(pod); !have.Coarse || have.Started.IsZero() {
		t.Errorf("with times that cannot be read it has %+v", have)
	}
}
