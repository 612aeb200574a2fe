package node

import (
	"encoding/json"
	"time"

	v1 "k8s.io/api/core/v1"
)

// StartTimesCondition is what the control plane reads the steps of a pod's start from,
// finer than Kubernetes' whole seconds: the message is the JSON of startTimes. It goes with the
// status that says that the containers run and costs no write of its own.
const StartTimesCondition v1.PodConditionType = "ebb.dev/StartTimes"

// startTimes are when the pod reached the steps of its start. The pod's mu guards them.
type startTimes struct {
	Created   time.Time `json:"created,omitzero"` // when the node heard of it
	Scheduled time.Time `json:"scheduled,omitzero"`
	Pulled    time.Time `json:"pulled,omitzero"`  // the last image
	Started   time.Time `json:"started,omitzero"` // the last container, for the first time
	over      bool      // told
}

// pulled notes that one of the pod's images is there.
func (t *startTimes) pulled(p *pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Pulled = time.Now()
}

// ran notes that a container runs.
func (t *startTimes) ran(at time.Time) {
	if !t.over && at.After(t.Started) {
		t.Started = at
	}
}

// condition is the one to write once all containers run, nil before that. It does not change any
// more then, and is not known to a node process that found the pod running.
func (t *startTimes) condition(running bool) *v1.PodCondition {
	if !t.over && (!running || t.Created.IsZero() || t.Started.IsZero()) {
		return nil
	}
	t.over = true
	text, err := json.Marshal(t)
	if err != nil {
		return nil
	}
	return &v1.PodCondition{Type: StartTimesCondition, Status: v1.ConditionTrue, Message: string(text)}
}
