package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"ebb.dev/ebb/eventing/event"
)

// Types of events: what happened to an object, with the object or with a reference to it.
const (
	typeWhole     = "dev.knative.apiserver.resource."
	typeReference = "dev.knative.apiserver.ref."
)

// Waits of a stream that failed.
const (
	firstWait = time.Second
	lastWait  = 30 * time.Second
)

const pageSize = 500

// stream is one kind of objects in one namespace, or in all ("").
type stream struct {
	Resource
	namespace string
}

func (s stream) name() string {
	return strings.Join([]string{s.APIVersion, s.Kind, s.namespace, s.Selector}, "|")
}

func (s stream) of(c dynamic.Interface) dynamic.ResourceInterface {
	if s.namespace == "" {
		return c.Resource(s.GVR)
	}
	return c.Resource(s.GVR).Namespace(s.namespace)
}

// follow keeps one stream until ctx ends.
func (r *Runner) follow(ctx context.Context, s *source, name string, one stream) {
	wait := firstWait
	for ctx.Err() == nil {
		begun := time.Now()
		err := r.once(ctx, s, name, one)
		if ctx.Err() != nil {
			return
		}
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			s.note(name, "") // what happened since is not known any more: all that there is is sent anew
			continue
		}
		if err == nil {
			continue // the API server ends watches after a while
		}
		r.problem(s, name, err)
		if time.Since(begun) > lastWait {
			wait = firstWait
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, lastWait)
	}
}

// once lists, unless it is known where to go on, and watches until the watch ends.
func (r *Runner) once(ctx context.Context, s *source, name string, one stream) error {
	version := s.version(name)
	if version == "" {
		var err error
		if version, err = r.list(ctx, s, one); err != nil {
			return err
		}
		s.note(name, version)
	}
	w, err := one.of(s.Client).Watch(ctx, metav1.ListOptions{LabelSelector: one.Selector, ResourceVersion: version, AllowWatchBookmarks: true})
	if err != nil {
		return err
	}
	defer w.Stop()
	r.problem(s, name, nil)
	for {
		var change watch.Event
		select {
		case <-ctx.Done():
			return nil
		case next, open := <-w.ResultChan():
			if !open {
				return nil
			}
			change = next
		}
		if change.Type == watch.Error {
			return apierrors.FromObject(change.Object)
		}
		o, ok := change.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("the API server sent a %T", change.Object)
		}
		verb := map[watch.EventType]string{watch.Added: "add", watch.Modified: "update", watch.Deleted: "delete"}[change.Type]
		if verb != "" {
			if err := r.send(ctx, s, o, verb); err != nil {
				return err
			}
		}
		if s.note(name, o.GetResourceVersion()) && r.changed != nil {
			r.changed(s.Namespace, s.Name)
		}
	}
}

// list sends what there is as added, and returns the version to watch from.
func (r *Runner) list(ctx context.Context, s *source, one stream) (string, error) {
	options := metav1.ListOptions{LabelSelector: one.Selector, Limit: pageSize}
	for {
		page, err := one.of(s.Client).List(ctx, options)
		if err != nil {
			return "", err
		}
		for i := range page.Items {
			if err := r.send(ctx, s, &page.Items[i], "add"); err != nil {
				return "", err
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return page.GetResourceVersion(), nil
		}
	}
}

// send sends what happened to one object; only the end of ctx is an error, what the sink does not take is lost and logged.
func (r *Runner) send(ctx context.Context, s *source, o *unstructured.Unstructured, verb string) error {
	if !s.owned(o) {
		return nil
	}
	e, err := s.event(o, verb)
	if err == nil && s.Match(e) {
		err = s.Send(ctx, e)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("a change was not taken", "apiserversource", s.Namespace+"/"+s.Name, "object", o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName(), "error", err.Error())
	}
	return ctx.Err()
}

// owned says whether an object is controlled by one of the kind that is asked for.
func (s *source) owned(o *unstructured.Unstructured) bool {
	if s.OwnerKind == "" {
		return true
	}
	c := metav1.GetControllerOf(o)
	return c != nil && c.Kind == s.OwnerKind && c.APIVersion == s.OwnerAPIVersion
}

func (s *source) event(o *unstructured.Unstructured, verb string) (*event.Event, error) {
	var content any = o.Object
	kind := typeWhole
	if !s.Whole {
		kind = typeReference
		content = map[string]string{
			"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "namespace": o.GetNamespace(), "name": o.GetName(),
			"uid": string(o.GetUID()), "resourceVersion": o.GetResourceVersion(),
		}
	}
	data, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	e := &event.Event{
		ID: string(o.GetUID()) + "-" + o.GetResourceVersion() + "-" + verb, Source: s.From, Type: kind + verb, Subject: subject(o),
		Time: time.Now().UTC().Format(time.RFC3339Nano), DataContentType: "application/json", Data: data,
	}
	for _, a := range [][2]string{{"apiversion", o.GetAPIVersion()}, {"kind", o.GetKind()}, {"name", o.GetName()}, {"namespace", o.GetNamespace()}} {
		if a[1] != "" {
			e.SetExtension(a[0], a[1])
		}
	}
	for name, value := range s.Extensions {
		e.SetExtension(name, value)
	}
	return e, nil
}

// subject is the path of an object.
func subject(o *unstructured.Unstructured) string {
	path := "/apis/" + o.GetAPIVersion()
	if o.GetNamespace() != "" {
		path += "/namespaces/" + o.GetNamespace()
	}
	return path + "/" + strings.ToLower(o.GetKind()) + "s/" + o.GetName()
}

func (s *source) version(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.versions[name]
}

// note says whether this is the first move since State was asked.
func (s *source) note(name, version string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.moved
	s.moved = true
	if version == "" {
		delete(s.versions, name)
	} else {
		s.versions[name] = version
	}
	return first
}

// problem notes what is wrong with a stream, nil: nothing, it has begun.
func (r *Runner) problem(s *source, name string, err error) {
	s.mu.Lock()
	was, began := s.problems[name], s.synced[name]
	if err == nil {
		delete(s.problems, name)
		s.synced[name] = true
	} else {
		s.problems[name] = err
	}
	s.mu.Unlock()
	if r.changed != nil && (!began && err == nil || (was == nil) != (err == nil) || err != nil && was.Error() != err.Error()) {
		r.changed(s.Namespace, s.Name)
	}
}

// Denied says whether a problem is a missing permission.
func Denied(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && (status.Status().Code == http.StatusForbidden || status.Status().Code == http.StatusUnauthorized)
}
