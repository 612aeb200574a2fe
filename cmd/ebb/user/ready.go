package user

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

const (
	// failedFor is how long a service is not Ready without a change of reason until that is
	// taken for its state: a rollout passes through states that look like failures.
	failedFor = 3 * time.Second
	// waitingFor is how long it waits for the same thing until that is worth a line.
	waitingFor = time.Second
	watchPause = 200 * time.Millisecond
)

// NotReadyError is a service that cannot become Ready as it is.
type NotReadyError struct {
	Service string
	Reason  string
	Message string
}

func (e *NotReadyError) Error() string {
	text := fmt.Sprintf("service %s cannot get ready: %s", e.Service, e.Reason)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text + fmt.Sprintf("\n  `ebb logs %s` shows what it wrote, `ebb describe %s` its state; traffic stays where it was until a revision gets ready", e.Service, e.Service)
}

// AwaitReady watches until the service is Ready as svc, which may be an answer to a
// write, declares it. progress gets a line for each stage reached, and one for what is
// waited for when that takes longer than a second. A service that has not been Ready for
// three seconds with the same reason is a *NotReadyError; a context that ends is its cause.
func (s *Session) AwaitReady(ctx context.Context, svc *v1.Service, progress func(string)) (*v1.Service, error) {
	r := newRollout(svc, progress)
	defer r.end()
	for {
		w, err := s.Watch(ctx, &v1.ServiceList{}, client.InNamespace(svc.Namespace), client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", svc.Name)})
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, s.explain(err, fmt.Sprintf("watch service %q", svc.Name))
		}
		ready, err := r.follow(ctx, w)
		w.Stop()
		if ready != nil || err != nil {
			return ready, err
		}
		select { // the watch ended early: once more
		case <-time.After(watchPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// rollout is a service on its way to Ready.
type rollout struct {
	generation int64
	progress   func(string)

	created, ready string // revisions that were so already, or have been told
	waits          string // what it waits for, and
	waiting        *time.Timer
	told           map[string]bool // what it waited for, in lines so far

	failure *NotReadyError // the present one; it counts when the timer fires
	failing *time.Timer
}

func newRollout(svc *v1.Service, progress func(string)) *rollout {
	r := &rollout{
		generation: svc.Generation, progress: progress, told: map[string]bool{},
		created: svc.Status.LatestCreatedRevisionName, ready: svc.Status.LatestReadyRevisionName,
		waiting: time.NewTimer(time.Hour), failing: time.NewTimer(time.Hour),
	}
	r.waiting.Stop()
	r.failing.Stop()
	return r
}

func (r *rollout) end() {
	r.waiting.Stop()
	r.failing.Stop()
}

// follow reads a watch; it returns neither a service nor an error when the watch ends.
func (r *rollout) follow(ctx context.Context, w watch.Interface) (*v1.Service, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-r.failing.C:
			return nil, r.failure
		case <-r.waiting.C:
			r.told[r.waits] = true
			r.progress("waiting: " + r.waits)
		case event, ok := <-w.ResultChan():
			if !ok || event.Type == watch.Error {
				return nil, nil
			}
			svc, isService := event.Object.(*v1.Service)
			if !isService {
				continue
			}
			if event.Type == watch.Deleted {
				return nil, errors.New("service " + svc.Name + " was deleted meanwhile")
			}
			if svc.Status.ObservedGeneration < r.generation {
				continue
			}
			if r.observe(svc) {
				svc.SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindService))
				return svc, nil
			}
		}
	}
}

// observe tells the stages that a state of the service has reached; done when it is Ready.
func (r *rollout) observe(svc *v1.Service) (done bool) {
	if name := svc.Status.LatestCreatedRevisionName; name != r.created {
		r.created = name
		r.progress("revision " + name + " made")
	}
	if name := svc.Status.LatestReadyRevisionName; name != r.ready {
		r.ready = name
		r.progress("revision " + name + " ready")
	}
	ready := svc.Status.Conditions.Get(v1.ConditionReady)
	if ready.IsTrue() {
		if text := describeTraffic(svc.Status.Traffic); text != "" {
			r.progress("serving: " + text)
		}
		if _, serves := shares(svc.Status.Traffic)[r.ready]; !serves && r.ready != "" {
			r.progress(fmt.Sprintf("traffic is pinned and %s gets none: `ebb traffic %s --to-latest` gives it all", r.ready, svc.Name))
		}
		return true
	}
	failure := (*NotReadyError)(nil)
	if ready.IsFalse() {
		failure = &NotReadyError{Service: svc.Name, Reason: ready.Reason, Message: ready.Message}
	}
	switch {
	case failure == nil:
		r.failing.Stop()
	case r.failure == nil || r.failure.Reason != failure.Reason:
		r.failing.Reset(failedFor)
	}
	r.failure = failure
	if text := why(ready); text != r.waits {
		r.waits = text
		r.waiting.Stop()
		if text != "" && failure == nil && !r.told[text] {
			r.waiting.Reset(waitingFor)
		}
	}
	return false
}
