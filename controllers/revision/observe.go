package revision

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// observe writes into status how the Revision's Deployment and pods do. initial is the
// number of pods that must once have been ready before the Revision is. A Revision that
// has been Ready stays so while it has no pods or starts some, until they fail.
func observe(status *v1.RevisionStatus, d *appsv1.Deployment, pods []corev1.Pod, initial int32, now time.Time) {
	desired, up := int32(1), int32(0)
	if d.Spec.Replicas != nil {
		desired = *d.Spec.Replicas
	}
	for i := range pods {
		if pods[i].DeletionTimestamp == nil && ready(&pods[i]) {
			up++
		}
	}
	status.DesiredReplicas, status.ActualReplicas = &desired, &up
	conditions := &status.Conditions
	if c := conditions.Get(v1.RevisionResourcesAvailable); c.IsFalse() && c.Reason == v1.ReasonNotOwned {
		// The Deployment is the Revision's own, so what was in its way is gone: no pod has to show it.
		conditions.SetUnknown(v1.RevisionResourcesAvailable, v1.ReasonDeploying, "", now)
	}
	active(status, desired, up, now)

	wasReady := conditions.Get(v1.ConditionReady).IsTrue()
	switch {
	case up > 0 && (wasReady || up >= min(initial, desired)):
		conditions.SetTrue(v1.RevisionResourcesAvailable, now)
		conditions.SetTrue(v1.RevisionContainerHealthy, now)
	case desired == 0 && initial == 0 && !failed(conditions):
		conditions.SetTrue(v1.RevisionResourcesAvailable, now)
		conditions.SetTrue(v1.RevisionContainerHealthy, now)
	case desired == 0:
		// Nothing runs, so nothing is learnt: what was known stays.
		unknownAtFirst(conditions, now)
	default:
		starting(conditions, d, pods, up, wasReady, now)
	}
	conditions.Aggregate(v1.RevisionDependents(), now)
}

func starting(conditions *v1.Conditions, d *appsv1.Deployment, pods []corev1.Pod, up int32, wasReady bool, now time.Time) {
	resources, containers := v1.RevisionResourcesAvailable, v1.RevisionContainerHealthy
	if t := failure(pods); t != nil {
		if have := conditions.Get(containers); !t.vague || !have.IsFalse() {
			conditions.SetFalse(containers, t.reason, t.message, now)
		}
		if !conditions.Get(resources).IsTrue() {
			conditions.SetUnknown(resources, v1.ReasonDeploying, "", now)
		}
		return
	}
	if c := deploymentCondition(d, appsv1.DeploymentReplicaFailure); up == 0 && c != nil && c.Status == corev1.ConditionTrue {
		if refused(c.Message) {
			conditions.SetFalse(resources, nonEmpty(c.Reason, "ReplicaFailure"), c.Message, now)
		} else { // the API server could not, for now
			conditions.SetUnknown(resources, nonEmpty(c.Reason, "ReplicaFailure"), c.Message+"; it is tried again.", now)
		}
		unknownAtFirst(conditions, now)
		return
	}
	if c := deploymentCondition(d, appsv1.DeploymentProgressing); up == 0 && c != nil && c.Status == corev1.ConditionFalse {
		message := c.Message
		for _, more := range []string{unready(pods), said(unschedulable(pods))} {
			if more != "" {
				message = strings.TrimSuffix(message, ".") + ". " + more
			}
		}
		conditions.SetFalse(resources, nonEmpty(c.Reason, v1.ReasonProgressDeadlineExceeded), message, now)
		unknownAtFirst(conditions, now)
		return
	}
	if wasReady {
		return
	}
	if have := conditions.Get(containers); have.IsFalse() && len(pods) == 0 {
		return // a failing pod was replaced; its message stays until the next one says something
	}
	if t := unschedulable(pods); t != nil {
		conditions.SetUnknown(resources, t.reason, t.message, now)
	} else {
		conditions.SetUnknown(resources, v1.ReasonDeploying, "", now)
	}
	conditions.SetUnknown(containers, v1.ReasonDeploying, "", now)
}

// refused says whether a pod was not made because it may not be: by quota, policy or what it says. That is all the
// controller manager keeps of an error, so it is told by the words of Kubernetes' API errors; whatever
// else it says (etcd away, time out) passes, and requests wait for it.
func refused(message string) bool {
	for _, words := range []string{" is forbidden: ", " is invalid: ", "denied the request", " not found"} {
		if strings.Contains(message, words) {
			return true
		}
	}
	return false
}

func active(status *v1.RevisionStatus, desired, up int32, now time.Time) {
	next := v1.Condition{Type: v1.RevisionActive, Severity: v1.SeverityInfo, Status: corev1.ConditionTrue}
	switch {
	case desired == 0 && failed(&status.Conditions):
		next.Status, next.Reason, next.Message = corev1.ConditionFalse, v1.ReasonTimedOut, "No pod of it became ready in time."
	case desired == 0:
		next.Status, next.Reason, next.Message = corev1.ConditionFalse, v1.ReasonNoTraffic, "No request asks for it, so it has no pods."
	case up == 0:
		next.Status, next.Reason, next.Message = corev1.ConditionUnknown, v1.ReasonQueued, fmt.Sprintf("Requests wait for the first of %d pods.", desired)
	}
	status.Conditions.Set(next, now)
}

func unknownAtFirst(conditions *v1.Conditions, now time.Time) {
	for _, kind := range v1.RevisionDependents() {
		if conditions.Get(kind) == nil {
			conditions.SetUnknown(kind, v1.ReasonDeploying, "", now)
		}
	}
}

func failed(conditions *v1.Conditions) bool {
	return conditions.Get(v1.RevisionResourcesAvailable).IsFalse() || conditions.Get(v1.RevisionContainerHealthy).IsFalse()
}

func deploymentCondition(d *appsv1.Deployment, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == kind {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

func said(t *trouble) string {
	if t == nil {
		return ""
	}
	return t.message
}
