package user

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// advice is what helps with reasons.
type advice struct {
	reasons []string // each may be the beginning of one
	text    string   // %s is the service
}

var advices = []advice{
	{[]string{v1.ReasonContainerMissing, "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", v1.ReasonResolvingDigests},
		"check the image's name, that it was pushed, and that imagePullSecrets give access; then `ebb deploy %s --image REF`"},
	{[]string{v1.ReasonExitCode, "CrashLoopBackOff", "RunContainerError", "CreateContainerError"}, "`ebb logs %s --previous` shows what it wrote before it ended"},
	{[]string{"CreateContainerConfigError", "FailedMount"}, "make the Secret or ConfigMap that it names; the pod goes on by itself"},
	{[]string{"Unschedulable", "FailedScheduling"}, "make room, or lower what its containers request: `kubectl describe nodes`"},
	{[]string{"FailedCreate", "ReplicaFailure"}, "what the message names refuses its pods: a quota, a limit range, a policy or a missing service account"},
	{[]string{"Unhealthy", "ContainersNotReady", v1.ReasonProgressDeadlineExceeded}, "its readiness probe fails: `ebb logs %s`; does it listen on $PORT?"},
	{[]string{v1.ReasonNotOwned, v1.ReasonRevisionNotOwned, v1.ReasonRevisionNameTaken}, "another object has the name: delete that one, or choose another name"},
	{[]string{v1.ReasonRevisionMissing, v1.ReasonConfigurationMissing}, "`ebb traffic %s --to-latest` gives the traffic to what there is"},
	{[]string{v1.ReasonNoGateway}, "no gateway is connected: `ebb status`"},
	{[]string{v1.ReasonRejected}, "a gateway refused its configuration and serves the last good one; the message says why"},
	{[]string{v1.ReasonProgramming, v1.ReasonIngressNotConfigured}, "`ebb status` shows whether a gateway is behind"},
	{[]string{"Certificate", v1.ReasonTLSNotEnabled, v1.ReasonHTTPDowngrade}, "`kubectl get certificates,certificaterequests` in its namespace, and config-certmanager"},
	{[]string{v1.ReasonDeploying, v1.ReasonQueued, v1.ReasonOutOfDate, v1.ReasonTrafficNotMigrated, v1.ReasonRolloutInProgress}, "it is on its way; ask again in a moment"},
}

// nextStep is the advice for the deepest finding that there is one for.
func (c *cause) nextStep(service string) string {
	for _, f := range slices.Backward(c.Chain) {
		for _, a := range advices {
			if !slices.ContainsFunc(a.reasons, func(r string) bool { return strings.HasPrefix(f.Reason, r) }) {
				continue
			}
			if strings.Contains(a.text, "%s") {
				return fmt.Sprintf(a.text, service)
			}
			return a.text
		}
	}
	if len(c.Chain) == 0 {
		return ""
	}
	return fmt.Sprintf("`ebb describe %s` shows its conditions and pods", service)
}

// eventTime is when an event happened last.
func eventTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}
