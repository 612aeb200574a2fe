package compat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/client/clientset/versioned"
	typed "knative.dev/serving/pkg/client/clientset/versioned/typed/serving/v1"
	kjson "sigs.k8s.io/json"

	"ebb.dev/ebb/test/e2e/platform"
)

// user is somebody with the public client and a namespace of a platform.
type user struct {
	*platform.Namespace
	clientset versioned.Interface
	public    typed.ServingV1Interface
}

// begin gives a test a user; it runs beside others.
func begin(t *testing.T) *user {
	t.Helper()
	t.Parallel()
	p := shared.Platform(t)
	clientset, err := versioned.NewForConfig(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	return &user{p.Namespace(t), clientset, clientset.ServingV1()}
}

// template runs test/app and answers with a word.
func (u *user) template(word string) servingv1.RevisionTemplateSpec {
	u.Helper()
	var t servingv1.RevisionTemplateSpec
	t.Annotations = map[string]string{"autoscaling.knative.dev/window": "6s"}
	t.Spec.Containers = []corev1.Container{{Image: u.Image(u, platform.App), Env: []corev1.EnvVar{{Name: "TARGET", Value: word}}}}
	return t
}

func (u *user) named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: u.In, Name: name}
}

// must is for what the public client returns.
func must[T any](v T, err error) func(u *user) T {
	return func(u *user) T {
		u.Helper()
		if err != nil {
			u.Fatal(err)
		}
		return v
	}
}

type watches func(context.Context, metav1.ListOptions) (watch.Interface, error)

// await watches one object with the public client until holds returns nil for it.
func await[T runtime.Object](u *user, watches watches, name string, holds func(T) error) T {
	u.Helper()
	ctx, cancel := context.WithTimeout(u.Context(), platform.Deadline)
	defer cancel()
	var last T
	missing := errors.New("it has not been seen")
	for ctx.Err() == nil {
		w, err := watches(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			u.Fatalf("watch %s: %v", name, err)
		}
		for event := range w.ResultChan() {
			object, ok := event.Object.(T)
			if !ok || event.Type == watch.Deleted {
				u.Fatalf("watch %s: %s brought a %T", name, event.Type, event.Object)
			}
			last = object
			if missing = holds(object); missing == nil {
				w.Stop()
				return object
			}
		}
	}
	u.Fatalf("%s/%s: %v", u.In, name, missing)
	return last
}

// ready is what a client waits for: the public types' own word for it.
func ready[T interface{ IsReady() bool }](object T) error {
	if !object.IsReady() {
		text, _ := json.Marshal(object)
		return fmt.Errorf("it is not ready: %s", text)
	}
	return nil
}

// change reads an object, changes it and writes it, and does so again on a conflict, as kn does.
func change[T any](u *user, objects interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Update(ctx context.Context, object T, opts metav1.UpdateOptions) (T, error)
}, name string, how func(T)) {
	u.Helper()
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object, err := objects.Get(u.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		how(object)
		_, err = objects.Update(u.Context(), object, metav1.UpdateOptions{})
		return err
	}); err != nil {
		u.Fatal(err)
	}
}

// awaitGone waits until an object is deleted.
func awaitGone[T runtime.Object](u *user, objects interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}, name string) {
	u.Helper()
	ctx, cancel := context.WithTimeout(u.Context(), platform.Deadline)
	defer cancel()
	for ctx.Err() == nil {
		w, err := objects.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			u.Fatalf("watch %s: %v", name, err)
		}
		if _, err := objects.Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			w.Stop()
			return
		}
		for event := range w.ResultChan() {
			if event.Type == watch.Deleted {
				w.Stop()
				return
			}
		}
	}
	u.Fatalf("%s/%s is still there", u.In, name)
}

// lossless reads an object as the API server sends it into its public type, strictly, and
// checks that the type writes all of it again.
func lossless(u *user, resource, name string, into any) {
	u.Helper()
	raw, err := u.public.RESTClient().Get().Namespace(u.In).Resource(resource).Name(name).DoRaw(u.Context())
	if err != nil {
		u.Fatal(err)
	}
	sameAgain(u, raw, into)
}

func sameAgain(t testing.TB, raw []byte, into any) {
	t.Helper()
	strict, err := kjson.UnmarshalStrict(raw, into)
	if err != nil || len(strict) > 0 {
		t.Errorf("the public type cannot read this: %v %v\n%s", err, strict, raw)
		return
	}
	written, err := json.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := errors.Join(json.Unmarshal(raw, &want), json.Unmarshal(written, &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tidy(want), tidy(got)); diff != "" {
		t.Errorf("what the public type loses (-sent +read):\n%s", diff)
	}
}
