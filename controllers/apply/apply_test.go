package apply

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestContains(t *testing.T) {
	m := func(kv ...any) map[string]any {
		out := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i].(string)] = kv[i+1]
		}
		return out
	}
	for _, tc := range []struct {
		name       string
		have, want any
		is         bool
	}{
		{"defaults added by the server do not count", m("a", 1.0, "b", 2.0), m("a", 1.0), true},
		{"a changed value", m("a", 1.0), m("a", 2.0), false},
		{"a missing value", m(), m("a", 2.0), false},
		{"an empty map that the server leaves out", m(), m("resources", m()), true},
		{"deep", m("a", []any{m("x", 1.0, "y", 1.0)}), m("a", []any{m("x", 1.0)}), true},
		{"a list that has grown", m("a", []any{1.0, 2.0}), m("a", []any{1.0}), false},
		{"another kind of value", m("a", "1"), m("a", m("b", 1.0)), false},
	} {
		if got := contains(tc.have, tc.want); got != tc.is {
			t.Errorf("%s: contains = %v, want %v", tc.name, got, tc.is)
		}
	}
}

func TestStampIsStableAndFollowsContent(t *testing.T) {
	make := func(v string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": v}}
	}
	a, b := make("1"), make("2")
	for _, o := range []*corev1.ConfigMap{a, b} {
		if err := Stamp(o); err != nil {
			t.Fatal(err)
		}
	}
	first := a.Annotations[HashAnnotation]
	if first == "" || first == b.Annotations[HashAnnotation] {
		t.Fatalf("hashes %q and %q should differ and not be empty", first, b.Annotations[HashAnnotation])
	}
	if err := Stamp(a); err != nil || a.Annotations[HashAnnotation] != first {
		t.Fatalf("a second Stamp gave %q, want %q (%v)", a.Annotations[HashAnnotation], first, err)
	}
}
