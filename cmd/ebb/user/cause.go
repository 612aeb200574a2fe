package user

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// evidence is what there is to see of a Service, from the top down. Parts that may not
// be read are empty.
type evidence struct {
	service       *v1.Service
	configuration *v1.Configuration
	route         *v1.Route
	revisions     []v1.Revision
	deployments   []appsv1.Deployment
	pods          []corev1.Pod
	events        []corev1.Event
}

// finding is what one object says.
type finding struct {
	Object string `json:"object"`
	Reason string `json:"reason,omitempty"`
	Says   string `json:"says,omitempty"`
}

func (f finding) String() string {
	text := f.Reason
	if f.Says != "" && text != "" {
		text += ": "
	}
	return text + f.Says
}

// cause is why a Service is not Ready: what was found on the way down, the last of which
// is the cause, and what to do about it.
type cause struct {
	Ready bool      `json:"ready"`
	Chain []finding `json:"chain,omitempty"`
	Next  string    `json:"next,omitempty"`
}

// findCause walks from the Service down to where nothing below says more.
func findCause(e *evidence) cause {
	c := cause{Ready: e.service.Status.ObservedGeneration == e.service.Generation && e.service.Status.Conditions.Get(v1.ConditionReady).IsTrue()}
	if e.service.Status.ObservedGeneration != e.service.Generation {
		c.add("service "+e.service.Name, "NotObserved", "the controller has not looked at it since it was written")
		c.Next = "`ebb status` shows whether a controller runs"
		return c
	}
	if !c.Ready {
		c.condition("service "+e.service.Name, e.service.Status.Conditions.Get(v1.ConditionReady))
		if !e.service.Status.Conditions.Get(v1.ServiceConfigurationsReady).IsTrue() {
			c.configuration(e)
		} else if e.route != nil {
			c.routeConditions(e.route)
		}
	} else {
		// A later start may fail although the first one did not.
		for i := range e.revisions {
			if _, serves := shares(e.service.Status.Traffic)[e.revisions[i].Name]; serves {
				c.belowRevision(e, e.revisions[i].Name, true)
			}
		}
	}
	c.Next = c.nextStep(e.service.Name)
	return c
}

func (c *cause) add(object, reason, says string) {
	c.Chain = append(c.Chain, finding{object, reason, strings.TrimSpace(says)})
}

func (c *cause) condition(object string, condition *v1.Condition) {
	if condition == nil {
		c.add(object, "", "says nothing yet")
		return
	}
	c.add(object, condition.Reason, condition.Message)
}

func (c *cause) configuration(e *evidence) {
	if e.configuration == nil {
		return
	}
	s := &e.configuration.Status
	c.condition("configuration "+e.configuration.Name, s.Conditions.Get(v1.ConditionReady))
	name := s.LatestCreatedRevisionName
	i := slices.IndexFunc(e.revisions, func(r v1.Revision) bool { return r.Name == name })
	if i < 0 {
		return
	}
	r := &e.revisions[i]
	if r.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
		return
	}
	for _, kind := range []string{v1.RevisionContainerHealthy, v1.RevisionResourcesAvailable} {
		if condition := r.Status.Conditions.Get(kind); condition.IsFalse() {
			c.add("revision "+name+" "+kind, condition.Reason, condition.Message)
			c.belowRevision(e, name, false)
			return
		}
	}
	c.condition("revision "+name, r.Status.Conditions.Get(v1.ConditionReady))
	c.belowRevision(e, name, false)
}

func (c *cause) routeConditions(r *v1.Route) {
	for _, kind := range []string{v1.RouteAllTrafficAssigned, v1.RouteCertificateProvisioned, v1.RouteIngressReady} {
		if condition := r.Status.Conditions.Get(kind); condition != nil && !condition.IsTrue() {
			c.add("route "+r.Name+" "+kind, condition.Reason, condition.Message)
			return
		}
	}
	c.condition("route "+r.Name, r.Status.Conditions.Get(v1.ConditionReady))
}

// belowRevision looks at what Kubernetes made for a revision. onlyTrouble leaves out what is
// on its way.
func (c *cause) belowRevision(e *evidence, revision string, onlyTrouble bool) {
	deployment := revision + "-deployment"
	if i := slices.IndexFunc(e.deployments, func(d appsv1.Deployment) bool { return d.Name == deployment }); i >= 0 {
		for _, condition := range e.deployments[i].Status.Conditions {
			failed := condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue
			late := condition.Type == appsv1.DeploymentProgressing && condition.Status == corev1.ConditionFalse
			if failed || late && !onlyTrouble {
				c.add("deployment "+deployment, condition.Reason, condition.Message)
			}
			if failed {
				return
			}
		}
	}
	found := false
	for i := range e.pods {
		p := &e.pods[i]
		if p.Labels[serving.RevisionLabel] != revision || p.DeletionTimestamp != nil || podIsReady(p) {
			continue
		}
		t := podTrouble(p)
		if t != nil {
			c.Chain = append(c.Chain, *t)
			found = true
		}
		// A kubelet says why a probe fails, or a volume is not there, by an event alone.
		w := warning(e.events, "Pod", func(name string) bool { return name == p.Name })
		if w != nil && (t == nil && !onlyTrouble || t != nil && t.Reason == "ContainersNotReady") {
			c.add("event of pod "+p.Name, w.Reason, w.Message)
			found = true
		}
		if found {
			return
		}
	}
	if onlyTrouble {
		return
	}
	made := func(name string) bool { return strings.HasPrefix(name, deployment+"-") }
	if w := warning(e.events, "ReplicaSet", made); w != nil {
		c.add("event of replicaset "+w.InvolvedObject.Name, w.Reason, w.Message)
	}
}

func podIsReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// podTrouble is the most telling thing that a pod says; nil when it says only that it begins.
func podTrouble(p *corev1.Pod) *finding {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return &finding{"pod " + p.Name, c.Reason, c.Message}
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if s.Ready {
			continue
		}
		object := fmt.Sprintf("pod %s, container %s", p.Name, s.Name)
		ended := s.State.Terminated
		if ended == nil {
			ended = s.LastTerminationState.Terminated
		}
		if ended != nil && (ended.ExitCode != 0 || s.RestartCount > 0) {
			says := ended.Message
			if says == "" {
				says = ended.Reason
			}
			return &finding{object, fmt.Sprintf("%s%d", v1.ReasonExitCode, ended.ExitCode), says}
		}
		if w := s.State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			return &finding{object, w.Reason, w.Message}
		}
	}
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		for _, c := range p.Status.Conditions {
			if c.Type == kind && c.Status == corev1.ConditionFalse && c.Message != "" && p.Status.Phase == corev1.PodRunning {
				return &finding{"pod " + p.Name, c.Reason, c.Message}
			}
		}
	}
	return nil
}

// warning is the newest one about an object.
func warning(events []corev1.Event, kind string, about func(name string) bool) *corev1.Event {
	var newest *corev1.Event
	for i := range events {
		w := &events[i]
		if w.Type != corev1.EventTypeWarning || w.InvolvedObject.Kind != kind || !about(w.InvolvedObject.Name) {
			continue
		}
		if newest == nil || eventTime(w).After(eventTime(newest)) {
			newest = w
		}
	}
	return newest
}
