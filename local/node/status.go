package node

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// writeStatus writes the pod's status whenever it has changed, one patch of what
// has changed at a time, until done closes; then once more. It is the only
// writer of the pod.
func (p *pod) writeStatus(done <-chan struct{}) {
	select { // the status of a pod that is not this node's is not ours
	case <-p.bound:
	case <-p.n.ctx.Done():
		return
	}
	written := v1.Pod{Status: *p.object().Status.DeepCopy()}
	for last := false; !last; {
		select {
		case <-p.dirty:
		case <-done:
			last = true
		case <-p.n.ctx.Done():
			return
		}
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			ok, over := p.write(&written)
			if over || ok {
				last = last || over
				break
			}
			if !p.n.later(wait, nil) {
				return
			}
		}
	}
}

// write sends what differs from what was written last. over: there is no such
// pod any more.
func (p *pod) write(written *v1.Pod) (ok, over bool) {
	p.mu.Lock()
	if p.vanished {
		p.mu.Unlock()
		return true, true
	}
	next := v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: p.uid}, Status: p.status(written.Status)}
	if !p.annot && p.port != 0 {
		next.Annotations = map[string]string{PortAnnotation: strconv.Itoa(p.port)}
	}
	o, port := p.obj, p.port
	p.mu.Unlock()
	if next.Annotations == nil && equality.Semantic.DeepEqual(next.Status, written.Status) {
		return true, false
	}
	patch, err := difference(written, &next)
	if err == nil {
		_, err = p.n.client.CoreV1().Pods(o.Namespace).Patch(p.n.ctx, o.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	switch {
	case err == nil:
		written.Status = next.Status
		p.mu.Lock()
		p.annot = p.annot || p.port == port
		p.mu.Unlock()
		return true, false
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another pod of the name
		return true, true
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		p.n.log.Error("write the pod's status", "pod", p.name, "error", err)
		return true, false // the same again would be refused again
	}
	p.n.log.Warn("write the pod's status", "pod", p.name, "error", err)
	return false, p.n.ctx.Err() != nil
}

// difference is the patch; the UID in it makes it fail on another pod of the
// same name.
func difference(from, to *v1.Pod) ([]byte, error) {
	a, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(a, b, v1.Pod{})
}

// status is the pod's status now; mu is held. old gives the times of conditions.
func (p *pod) status(old v1.PodStatus) v1.PodStatus {
	s := *p.obj.Status.DeepCopy()
	s.Conditions = old.Conditions
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	if s.StartTime = old.StartTime; s.StartTime == nil {
		s.StartTime = &now
	}
	s.HostIP, s.HostIPs = p.n.cfg.Address, []v1.HostIP{{IP: p.n.cfg.Address}}
	if p.failure != "" {
		s.Phase, s.Reason, s.Message = v1.PodPending, "NodeCannotRun", p.failure
		s.Conditions = p.conditions(old.Conditions, false, false, "NodeCannotRun", p.failure, now)
		return s
	}
	s.Reason, s.Message = old.Reason, old.Message
	s.InitContainerStatuses = statuses(p.inits)
	s.ContainerStatuses = statuses(p.mains)
	initialized := true
	for _, c := range p.inits {
		t := c.state.Terminated
		initialized = initialized && (c.sidecar() && c.started || t != nil && t.ExitCode == 0)
	}
	running, begun, ended, good := 0, 0, 0, true
	var unready []string
	why := ""
	for _, c := range p.inits { // a sidecar's readiness is the pod's too
		if c.sidecar() && !c.ready {
			unready = append(unready, c.spec.Name)
		}
	}
	for _, c := range p.mains {
		if c.state.Running != nil {
			running++
		}
		if c.state.Running != nil || c.restarts > 0 || c.last.Terminated != nil || c.state.Terminated != nil {
			begun++
		}
		if t := c.state.Terminated; t != nil && (p.stopped || !c.restartsAfter(int(t.ExitCode))) {
			ended++
			good = good && t.ExitCode == 0
		}
		if !c.ready {
			unready = append(unready, c.spec.Name)
			if c.notReady != "" && c.state.Running != nil {
				why = ": " + c.notReady
			}
		}
	}
	reason := "ContainersNotReady"
	switch {
	case ended == len(p.mains) && good:
		s.Phase, reason = v1.PodSucceeded, "PodCompleted"
	case ended == len(p.mains) || p.initFailed():
		s.Phase, reason = v1.PodFailed, "PodFailed"
	case begun == len(p.mains):
		s.Phase = v1.PodRunning
	default:
		s.Phase = v1.PodPending
	}
	if running > 0 || begun > 0 {
		s.PodIP, s.PodIPs = p.n.cfg.Address, []v1.PodIP{{IP: p.n.cfg.Address}}
	}
	message := ""
	if len(unready) > 0 {
		message = "containers with unready status: [" + strings.Join(unready, " ") + "]" + why
	}
	s.Conditions = p.conditions(old.Conditions, initialized, len(unready) == 0, reason, message, now)
	if begins := p.times.condition(running == len(p.mains)); begins != nil && !hasCondition(s.Conditions, begins.Type) {
		begins.LastTransitionTime = now
		s.Conditions = append(s.Conditions, *begins)
	}
	return s
}

func hasCondition(all []v1.PodCondition, kind v1.PodConditionType) bool {
	for _, c := range all {
		if c.Type == kind {
			return true
		}
	}
	return false
}

func (p *pod) initFailed() bool {
	for _, c := range p.inits {
		if t := c.state.Terminated; t != nil && t.ExitCode != 0 && p.obj.Spec.RestartPolicy == v1.RestartPolicyNever && !c.sidecar() {
			return true
		}
	}
	return false
}

// conditions keeps the conditions of others and sets the node's own.
func (p *pod) conditions(old []v1.PodCondition, initialized, ready bool, reason, message string, now metav1.Time) []v1.PodCondition {
	gates := ready
	for _, g := range p.obj.Spec.ReadinessGates {
		on := false
		for _, c := range p.obj.Status.Conditions {
			on = on || c.Type == g.ConditionType && c.Status == v1.ConditionTrue
		}
		gates = gates && on
	}
	own := []v1.PodCondition{
		{Type: v1.PodReadyToStartContainers, Status: v1.ConditionTrue},
		{Type: v1.PodInitialized, Status: status(initialized)},
		{Type: v1.PodReady, Status: status(gates)},
		{Type: v1.ContainersReady, Status: status(ready)},
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	}
	if !initialized {
		own[1].Reason = "ContainersNotInitialized"
	}
	if !gates {
		own[2].Reason, own[2].Message = reason, message
		if ready {
			own[2].Reason, own[2].Message = "ReadinessGatesNotReady", "a readiness gate of the pod is not True"
		}
	}
	if !ready {
		own[3].Reason, own[3].Message = reason, message
	}
	var out []v1.PodCondition
	for _, c := range own {
		c.LastTransitionTime = now
		for _, o := range old {
			if o.Type == c.Type {
				c.LastProbeTime, c.ObservedGeneration = o.LastProbeTime, o.ObservedGeneration
				if o.Status == c.Status {
					c.LastTransitionTime = o.LastTransitionTime
				}
			}
		}
		out = append(out, c)
	}
	for _, o := range old {
		mine := false
		for _, c := range own {
			mine = mine || c.Type == o.Type
		}
		if !mine {
			out = append(out, o)
		}
	}
	return out
}

func status(b bool) v1.ConditionStatus {
	if b {
		return v1.ConditionTrue
	}
	return v1.ConditionFalse
}

// statuses are those of the containers; the pod's mu is held.
func statuses(cs []*container) []v1.ContainerStatus {
	var out []v1.ContainerStatus
	for _, c := range cs {
		started := c.started
		ready := c.ready
		if c.init && !c.sidecar() { // an init container is ready when it has done its work
			ready = c.state.Terminated != nil && c.state.Terminated.ExitCode == 0
			started = c.state.Running != nil
		}
		out = append(out, v1.ContainerStatus{
			Name: c.spec.Name, State: *c.state.DeepCopy(), LastTerminationState: *c.last.DeepCopy(), Ready: ready, Started: &started,
			RestartCount: c.restarts, Image: c.spec.Image, ImageID: c.imageID, ContainerID: c.id,
		})
	}
	return out
}
