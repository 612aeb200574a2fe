package platform

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
)

// Configure writes keys of a ConfigMap of settings. They get their old values again when back is called, or the
// test ends. acts asks whether the platform acts by them (true), or as before (false), and says why
// not; Configure and back return when it does. A test that uses it runs beside no other.
func (p *Platform) Configure(t testing.TB, name string, data map[string]string, acts func(ctx context.Context, set bool) error) (back func()) {
	t.Helper()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: name}}
	if err := p.Create(t.Context(), m.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	if err := p.Get(t.Context(), client.ObjectKeyFromObject(m), m); err != nil {
		t.Fatal(err)
	}
	was := map[string]*string{}
	for key := range data {
		was[key] = nil
		if value, ok := m.Data[key]; ok {
			was[key] = &value
		}
	}
	write := func(ctx context.Context, values map[string]*string, set bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, Deadline)
		defer cancel()
		patch, err := json.Marshal(map[string]any{"data": values})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Patch(ctx, m.DeepCopy(), client.RawPatch("application/merge-patch+json", patch)); err != nil {
			t.Fatalf("write %s to %s: %v", patch, name, err)
		}
		if err := poll(ctx, func() error { return acts(ctx, set) }); err != nil {
			t.Fatalf("%s of %s are %s, but: %v", slices.Sorted(maps.Keys(data)), name, patch, err)
		}
	}
	next := map[string]*string{}
	for key, value := range data {
		next[key] = &value
	}
	back = sync.OnceFunc(func() { write(context.Background(), was, false) })
	t.Cleanup(back)
	write(t.Context(), next, true)
	return back
}
