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

// AwaitReady watches until the service is Ready as of the given generation. progress
// gets a line for each change of a condition. A service that is not going to be Ready
// is a *NotReadyError.
func (s *Session) AwaitReady(ctx context.Context, name string, generation int64, progress func(string)) (*v1.Service, error) {
	last := map[string]string{}
	for {
		w, err := s.Watch(ctx, &v1.ServiceList{}, client.InNamespace(s.Namespace), client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", name)})
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, s.explain(err, fmt.Sprintf("watch service %q", name))
		}
		svc, done, err := follow(ctx, w, generation, last, progress)
		w.Stop()
		if done || err != nil {
			return svc, err
		}
		select { // the watch ended early: once more
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func follow(ctx context.Context, w watch.Interface, generation int64, last map[string]string, progress func(string)) (*v1.Service, bool, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case event, ok := <-w.ResultChan():
			if !ok || event.Type == watch.Error {
				return nil, false, nil
			}
			svc, isService := event.Object.(*v1.Service)
			if !isService {
				continue
			}
			if event.Type == watch.Deleted {
				return nil, false, errors.New("service " + svc.Name + " was deleted meanwhile")
			}
			if svc.Status.ObservedGeneration < generation {
				continue
			}
			for _, c := range svc.Status.Conditions {
				state := readyWord(&c)
				if text := why(&c); text != "" {
					state += " " + text
				}
				if last[c.Type] != state {
					last[c.Type] = state
					progress(fmt.Sprintf("%-20s %s", c.Type, state))
				}
			}
			ready := svc.Status.Conditions.Get(v1.ConditionReady)
			switch {
			case ready.IsTrue():
				svc.SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindService))
				return svc, true, nil
			case ready.IsFalse():
				return nil, false, &NotReadyError{Service: svc.Name, Reason: ready.Reason, Message: ready.Message}
			}
		}
	}
}
