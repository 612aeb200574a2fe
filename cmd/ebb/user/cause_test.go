package user

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/autoscaler/coldstart"
)

func says(kind string, status corev1.ConditionStatus, reason, message string) v1.Condition {
	return v1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// failing is a Service whose newest revision failed with the reason; its Route is fine.
func failing(kind, reason, message string) *evidence {
	e := &evidence{
		service:       &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		configuration: &v1.Configuration{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		route:         &v1.Route{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		revisions:     []v1.Revision{{ObjectMeta: metav1.ObjectMeta{Name: "shop-00001"}}},
	}
	e.service.Status.Conditions = v1.Conditions{
		says(v1.ConditionReady, corev1.ConditionFalse, v1.ReasonRevisionFailed, `Revision "shop-00001" failed.`),
		says(v1.ServiceConfigurationsReady, corev1.ConditionFalse, v1.ReasonRevisionFailed, `Revision "shop-00001" failed.`),
	}
	e.configuration.Status.LatestCreatedRevisionName = "shop-00001"
	e.configuration.Status.Conditions = v1.Conditions{says(v1.ConditionReady, corev1.ConditionFalse, v1.ReasonRevisionFailed, `Revision "shop-00001" failed.`)}
	e.revisions[0].Status.Conditions = v1.Conditions{says(v1.ConditionReady, corev1.ConditionFalse, reason, message), says(kind, corev1.ConditionFalse, reason, message)}
	return e
}

func podOf(statuses ...corev1.ContainerStatus) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "shop-00001-deployment-x", Labels: map[string]string{serving.RevisionLabel: "shop-00001"}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: statuses},
	}
}

func event(kind, name, reason, message string, at int64) corev1.Event {
	return corev1.Event{Type: corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: metav1.Unix(at, 0),
		InvolvedObject: corev1.ObjectReference{Kind: kind, Name: name}}
}

func TestFindCause(t *testing.T) {
	const pod = "shop-00001-deployment-x"
	for name, test := range map[string]struct {
		evidence   func() *evidence
		object     string // of the last finding
		says, next string
	}{
		"not looked at": {
			evidence: func() *evidence {
				e := failing("", "", "")
				e.service.Generation = 2
				return e
			},
			object: "service shop", says: "NotObserved: the controller has not looked at it", next: "`ebb status`",
		},
		"image": {
			evidence: func() *evidence {
				return failing(v1.RevisionContainerHealthy, v1.ReasonContainerMissing, "nobody/has:this is not there")
			},
			object: "revision shop-00001 ContainerHealthy", says: "ContainerMissing: nobody/has:this", next: "check the image's name",
		},
		"exits": {
			evidence: func() *evidence {
				e := failing(v1.RevisionContainerHealthy, "ExitCode1", "exited")
				e.pods = []corev1.Pod{podOf(corev1.ContainerStatus{Name: "user-container", RestartCount: 2,
					State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"}},
					LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "the database is on fire\n"}}})}
				e.events = []corev1.Event{event("Pod", pod, "BackOff", "Back-off restarting failed container", 1)}
				return e
			},
			object: "pod " + pod + ", container user-container", says: "ExitCode1: the database is on fire", next: "`ebb logs shop --previous`",
		},
		"no room": {
			evidence: func() *evidence {
				e := failing(v1.RevisionResourcesAvailable, "Unschedulable", "0/3 nodes are available")
				p := podOf()
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available: 3 Insufficient cpu."}}
				e.pods = []corev1.Pod{p}
				return e
			},
			object: "pod " + pod, says: "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.", next: "make room",
		},
		"a secret": {
			evidence: func() *evidence {
				e := failing(v1.RevisionResourcesAvailable, v1.ReasonDeploying, "")
				e.pods = []corev1.Pod{podOf(corev1.ContainerStatus{Name: "user-container", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}})}
				e.events = []corev1.Event{
					event("Pod", pod, "FailedMount", `secret "keys" not found`, 20),
					event("Pod", pod, "Unhealthy", "of before", 10), event("Pod", "another", "Failed", "of another", 30),
				}
				return e
			},
			object: "event of pod " + pod, says: `FailedMount: secret "keys" not found`, next: "make the Secret or ConfigMap",
		},
		"quota": {
			evidence: func() *evidence {
				e := failing(v1.RevisionResourcesAvailable, "FailedCreate", "exceeded quota")
				e.deployments = []appsv1.Deployment{{ObjectMeta: metav1.ObjectMeta{Name: "shop-00001-deployment"}, Status: appsv1.DeploymentStatus{
					Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "pods are forbidden: exceeded quota: small"}}}}}
				return e
			},
			object: "deployment shop-00001-deployment", says: "FailedCreate: pods are forbidden: exceeded quota: small", next: "a quota",
		},
		"pods are refused": {
			evidence: func() *evidence {
				e := failing(v1.RevisionResourcesAvailable, v1.ReasonDeploying, "")
				e.events = []corev1.Event{event("ReplicaSet", "shop-00001-deployment-7", "FailedCreate", "a webhook says no", 1)}
				return e
			},
			object: "event of replicaset shop-00001-deployment-7", says: "FailedCreate: a webhook says no", next: "a policy",
		},
		"never ready": {
			evidence: func() *evidence {
				e := failing(v1.RevisionResourcesAvailable, v1.ReasonProgressDeadlineExceeded, "no pod got ready")
				p := podOf(corev1.ContainerStatus{Name: "user-container", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: "HTTP probe failed with statuscode: 503"}}
				e.pods = []corev1.Pod{p}
				return e
			},
			object: "pod " + pod, says: "ContainersNotReady: HTTP probe failed", next: "its readiness probe fails: `ebb logs shop`",
		},
		"no gateway": {
			evidence: func() *evidence {
				e := failing("", "", "")
				e.service.Status.Conditions = v1.Conditions{
					says(v1.ConditionReady, corev1.ConditionUnknown, v1.ReasonNoGateway, ""), says(v1.ServiceConfigurationsReady, corev1.ConditionTrue, "", ""),
					says(v1.ServiceRoutesReady, corev1.ConditionUnknown, v1.ReasonNoGateway, ""),
				}
				e.route.Status.Conditions = v1.Conditions{says(v1.RouteAllTrafficAssigned, corev1.ConditionTrue, "", ""), says(v1.RouteIngressReady, corev1.ConditionUnknown, v1.ReasonNoGateway, "No gateway is connected.")}
				return e
			},
			object: "route shop IngressReady", says: "NoGateway: No gateway is connected.", next: "`ebb status`",
		},
		"ready, and a later start fails": {
			evidence: func() *evidence {
				e := failing("", "", "")
				e.service.Status.Conditions = v1.Conditions{says(v1.ConditionReady, corev1.ConditionTrue, "", "")}
				e.service.Status.Traffic = []v1.TrafficTarget{{RevisionName: "shop-00001", Percent: ptr(int64(100))}}
				e.pods = []corev1.Pod{podOf(corev1.ContainerStatus{Name: "user-container", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "gone"}}})}
				return e
			},
			object: "pod " + pod + ", container user-container", says: "ImagePullBackOff: gone", next: "check the image's name",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := findCause(test.evidence())
			if len(c.Chain) == 0 {
				t.Fatalf("nothing is found: %+v", c)
			}
			last := c.Chain[len(c.Chain)-1]
			if last.Object != test.object || !strings.Contains(last.String(), test.says) || !strings.Contains(c.Next, test.next) {
				t.Errorf("found %+v\nnext %q", c.Chain, c.Next)
			}
		})
	}
	e := failing("", "", "")
	e.service.Status.Conditions = v1.Conditions{says(v1.ConditionReady, corev1.ConditionTrue, "", "")}
	if c := findCause(e); !c.Ready || len(c.Chain) != 0 || c.Next != "" {
		t.Errorf("of a ready service it says %+v", c)
	}
}

// explained is a Service that fails after a start from zero.
func explained(now time.Time) *explanation {
	e := failing(v1.RevisionContainerHealthy, "ExitCode1", "Container exited with code 1: no configuration")
	return &explanation{Service: "shop", State: findCause(e), Revisions: []revisionExplanation{
		{Revision: "shop-00002", Pods: "0/1", Reasons: []string{"1 requests are waiting or in flight"}, LastStart: &lastStart{
			At: now.Add(-12 * time.Second), Complete: true, Coarse: true,
			Parts: []coldstart.Part{{Step: "scaled", Since: 4.2, Took: 4.2}, {Step: "created", Since: 11, Took: 6.8}, {Step: "started", Since: 160, Took: 149}, {Step: "probed", Since: 170.5, Took: 10.5}, {Step: "forwarded", Since: 171, Took: .5}},
		}},
		{Revision: "shop-00001", Pods: "0/0"},
	}}
}

// platformOfPods is a platform on a cluster, of which a part is broken.
func platformOfPods() *PlatformStatus {
	return &PlatformStatus{
		Server: "10.0.0.1:443", Version: "v1.36.3", Nodes: 3, Services: 2, Pods: 4,
		Parts:    []Part{{Name: "activator-0", State: "ready", Node: "a"}, {Name: "controller-7d9f-x", State: "not ready: ExitCode2: panic", Node: "b", Restarts: 4}},
		Problems: []string{"no controller leads now: try again in a moment"},
	}
}
