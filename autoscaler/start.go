package autoscaler

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	servingv1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/autoscaler/intake"
)

// noteStart tells what an observation says of a start from zero. r is locked.
func (s *Scaler) noteStart(r *revision, o *intake.Observation) {
	if o.ColdHeld > 0 {
		s.opt.ColdStarts.Forwarded(r.key.namespace, r.key.name, o.ColdProbed, o.ColdHeld)
		return
	}
	if r.current == 0 && o.InFlight > 0 && o.Kind == intake.Activator {
		s.opt.ColdStarts.Arrived(r.key.namespace, r.key.name, o.To)
	}
}

// noteStartOf tells what a pod says of its start, while one goes on.
func (s *Scaler) noteStartOf(rev *servingv1.Revision, pod *corev1.Pod) {
	if pod.DeletionTimestamp == nil && s.opt.ColdStarts.Going(rev.Namespace, rev.Name) {
		s.opt.ColdStarts.Pod(rev.Namespace, rev.Name, serving.PodStartTimes(pod), time.Now())
	}
}

// LastStart is where the time of the revision's last start from zero went; ok false when it
// had none since this control plane leads.
func (s *Scaler) LastStart(namespace, revision string) (coldstart.Start, bool) {
	return s.opt.ColdStarts.Last(namespace, revision)
}
