package platform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Deadline of waiting for a condition. Nothing is expected to take this long; it only
// bounds a failing test.
const Deadline = 90 * time.Second

// final is an error that more waiting does not change.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// poll asks until there is no error; the last one is returned when ctx ends.
func poll(ctx context.Context, ask func() error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask()
		var end final
		if err == nil || errors.As(err, &end) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Until asks until there is no error, and fails the test with the last one when that is not in time. It may be called
// when the test is cleaned up.
func Until(t testing.TB, what string, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Deadline)
	defer cancel()
	if err := poll(ctx, ask); err != nil {
		t.Fatalf("%s: still %v", what, err)
	}
}

// Await watches the objects of a list's kind that the options select until holds
// returns nil for all of them together, and returns them. holds says in its error what
// is missing; the last one is returned when ctx ends. Broken watches are made again.
func Await[T client.Object](ctx context.Context, c client.WithWatch, list client.ObjectList, holds func([]T) error, options ...client.ListOption) ([]T, error) {
	last := errors.New("the API server did not answer")
	for {
		have, err := follow(ctx, c, list.DeepCopyObject().(client.ObjectList), holds, options, &last)
		if err == nil {
			return have, nil
		}
		select {
		case <-ctx.Done():
			return have, fmt.Errorf("%w (%w)", last, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond): // the API server may just be restarting
		}
	}
}

// follow is one list and the watch after it.
func follow[T client.Object](ctx context.Context, c client.WithWatch, list client.ObjectList, holds func([]T) error, options []client.ListOption, last *error) ([]T, error) {
	if err := c.List(ctx, list, options...); err != nil {
		return nil, err
	}
	objects, err := meta.ExtractList(list)
	if err != nil {
		return nil, err
	}
	have := map[client.ObjectKey]T{}
	for _, o := range objects {
		have[client.ObjectKeyFromObject(o.(T))] = o.(T)
	}
	check := func() ([]T, error) {
		all := make([]T, 0, len(have))
		for _, o := range have {
			all = append(all, o)
		}
		*last = holds(all)
		return all, *last
	}
	if all, err := check(); err == nil {
		return all, nil
	}
	from := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}}
	w, err := c.Watch(ctx, list, append(slices.Clone(options), from)...)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			all, _ := check()
			return all, ctx.Err()
		case event, ok := <-w.ResultChan():
			if !ok || event.Type == watch.Error {
				return nil, errors.New("the watch ended")
			}
			object, is := event.Object.(T)
			if !is {
				continue
			}
			if event.Type == watch.Deleted {
				delete(have, client.ObjectKeyFromObject(object))
			} else {
				have[client.ObjectKeyFromObject(object)] = object
			}
			if all, err := check(); err == nil {
				return all, nil
			}
		}
	}
}
