package service

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// TestAChildThatTheCacheHasNotSeen: its status is not believed before the cache has it,
// or a Service would be Ready and then, by an older state that comes next, not. No real
// cache can be made to lag when a test wants it, so clients with objects of their own stand in.
func TestAChildThatTheCacheHasNotSeen(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello", UID: "uid"}}
	made := makeConfiguration(s)
	made.Status.Conditions.SetTrue(v1.ConditionReady, metav1.Now().Time)
	store := func(objects ...client.Object) client.Client {
		return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	}
	live := store(made)

	behind := &reconciler{Client: writesTo{Client: store(), live: live}, live: live}
	got, err := child(t.Context(), behind, s, &seen{}, &v1.Configuration{}, makeConfiguration(s))
	if err != nil || got != nil {
		t.Errorf("with a cache that is behind: %v (%v), want none", got, err)
	}

	current := &reconciler{Client: live, live: live}
	if _, err := child(t.Context(), current, s, &seen{}, &v1.Configuration{}, makeConfiguration(s)); err != nil { // stamps it
		t.Fatal(err)
	}
	got, err = child(t.Context(), current, s, &seen{}, &v1.Configuration{}, makeConfiguration(s))
	if err != nil || got == nil || !got.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
		t.Errorf("with a cache that has it: %v (%v), want the child", got, err)
	}
}

// writesTo reads from one store and writes to another, as a cached client does.
type writesTo struct {
	client.Client
	live client.Client
}

func (w writesTo) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	return w.live.Apply(ctx, o, opts...)
}
