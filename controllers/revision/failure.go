package revision

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// trouble is why a pod does not get ready.
type trouble struct {
	reason, message string
	// vague is set where the message says only that it is tried again later.
	vague bool
}

// failure is the first trouble of any container, over the pods by name; nil when there is none.
func failure(pods []corev1.Pod) *trouble {
	var late *trouble
	for i := range byName(pods) {
		if pods[i].DeletionTimestamp != nil || ready(&pods[i]) {
			continue
		}
		for _, statuses := range [][]corev1.ContainerStatus{pods[i].Status.InitContainerStatuses, pods[i].Status.ContainerStatuses} {
			for j := range statuses {
				if serving.Served(&pods[i]) && !crashLoop(&statuses[j]) {
					continue // it is started again
				}
				t := containerTrouble(&statuses[j])
				if t != nil && !t.vague {
					return t
				}
				if late == nil {
					late = t
				}
			}
		}
	}
	return late
}

func crashLoop(c *corev1.ContainerStatus) bool {
	return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
}

func containerTrouble(c *corev1.ContainerStatus) *trouble {
	if c.Ready {
		return nil
	}
	if t := exited(c); t != nil {
		return &trouble{reason: fmt.Sprintf("%s%d", v1.ReasonExitCode, t.ExitCode), message: exitMessage(c.Name, t)}
	}
	w := c.State.Waiting
	if w == nil {
		return nil
	}
	switch w.Reason {
	case "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
		"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PostStartHookError":
		return &trouble{reason: w.Reason, message: containerMessage(c.Name, w)}
	case "ImagePullBackOff", "CrashLoopBackOff":
		// Newer kubelets put the pull's own error behind the back-off.
		return &trouble{reason: w.Reason, message: containerMessage(c.Name, w), vague: !strings.Contains(w.Message, "rror")}
	}
	return nil
}

// exited is how a container last ended, unless it has been ready since or ended well as
// an init container does.
func exited(c *corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	if t := c.State.Terminated; t != nil {
		if t.ExitCode == 0 && t.Reason == "Completed" && c.RestartCount == 0 {
			return nil
		}
		return t
	}
	return c.LastTerminationState.Terminated
}

func exitMessage(name string, t *corev1.ContainerStateTerminated) string {
	said := strings.TrimSpace(t.Message)
	if said == "" {
		said = fmt.Sprintf("it said nothing (%s)", nonEmpty(t.Reason, "no reason given"))
	}
	return fmt.Sprintf("Container %q exited with code %d: %s", name, t.ExitCode, said)
}

func containerMessage(name string, w *corev1.ContainerStateWaiting) string {
	return fmt.Sprintf("Container %q: %s", name, nonEmpty(w.Message, w.Reason))
}

// unschedulable is the scheduler's message for the first pod that fits nowhere; nil when all do.
func unschedulable(pods []corev1.Pod) *trouble {
	for i := range byName(pods) {
		for _, c := range pods[i].Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && pods[i].DeletionTimestamp == nil {
				return &trouble{reason: nonEmpty(c.Reason, "Unschedulable"), message: c.Message}
			}
		}
	}
	return nil
}

// unready is what the first pod that is not ready says of itself.
func unready(pods []corev1.Pod) string {
	for i := range byName(pods) {
		if pods[i].DeletionTimestamp != nil {
			continue
		}
		for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
			for _, c := range pods[i].Status.Conditions {
				if c.Type == kind && c.Status == corev1.ConditionFalse && c.Message != "" {
					return fmt.Sprintf("Pod %q: %s", pods[i].Name, c.Message)
				}
			}
		}
	}
	return ""
}

// ready says whether Kubernetes calls the pod Ready.
func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// byName sorts pods in place and returns them.
func byName(pods []corev1.Pod) []corev1.Pod {
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

func nonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
