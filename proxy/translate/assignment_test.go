package translate_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
)

func limited(limit int64) *v1.Revision {
	rev := &v1.Revision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello-00001", UID: "a1"}}
	rev.Spec.ContainerConcurrency = &limit
	rev.Spec.Containers = []corev1.Container{{Image: "hello"}}
	return rev
}

func readyPods(n int) []*corev1.Pod {
	var pods []*corev1.Pod
	for i := range n {
		pods = append(pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%05d", i)},
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, PodIP: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String(),
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			},
		})
	}
	return pods
}

func activators(n int) []ir.Endpoint {
	var list []ir.Endpoint
	for i := range n {
		list = append(list, ir.Endpoint{
			Name:    fmt.Sprint("activator-", i),
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}), 8012),
		})
	}
	return list
}

func none(string) bool { return false }

// TestPlaces: one activator for a small Revision, more with what its pods carry, and with a
// limit never more than pods, each of which belongs to one activator.
func TestPlaces(t *testing.T) {
	busy, err := settings.Default().With("config-autoscaler", map[string]string{"activator-capacity": "10"})
	if err != nil {
		t.Fatal(err)
	}
	desired := func(rev *v1.Revision, n int32) *v1.Revision { rev.Status.DesiredReplicas = &n; return rev }
	annotated := func(rev *v1.Revision, key, value string) *v1.Revision {
		rev.Annotations = map[string]string{"autoscaling.knative.dev/" + key: value}
		return rev
	}
	for _, c := range []struct {
		what string
		rev  *v1.Revision
		pods int
		s    *settings.Settings
		want int
	}{
		{"at zero", limited(0), 0, settings.Default(), 1},
		{"one pod of 100", limited(0), 1, settings.Default(), 1},
		{"five pods of 100", limited(0), 5, settings.Default(), 5},
		{"five pods of 10", annotated(limited(0), "target", "10"), 5, settings.Default(), 1},
		{"five pods of 10, activators of 10", annotated(limited(0), "target", "10"), 5, busy, 5},
		{"wished for", desired(limited(0), 7), 0, settings.Default(), 7},
		{"requests a second say nothing", annotated(limited(0), "metric", "rps"), 3, settings.Default(), 3},
		{"limited, at zero, wished for", desired(limited(1000), 7), 0, settings.Default(), 1},
		{"limited to 1", limited(1), 30, settings.Default(), 1},
		{"limited to 10", limited(10), 30, settings.Default(), 3},
		{"limited to 1000", limited(1000), 2, settings.Default(), 2},
		{"limited to 1000, one pod", limited(1000), 1, settings.Default(), 1},
	} {
		if got := translate.Places(c.rev, readyPods(c.pods), c.s); got != c.want {
			t.Errorf("%s: %d activators, want %d", c.what, got, c.want)
		}
	}
}

// TestActivatorsStay: one activator more or less changes only the Revisions that it has, and Enters knows
// which, without looking at the others' places.
func TestActivatorsStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "activators")
		places := rapid.IntRange(1, 4).Draw(t, "places")
		all := activators(n + 1)
		newcomer := rapid.IntRange(0, n).Draw(t, "newcomer")
		without := slices.Delete(slices.Clone(all), newcomer, newcomer+1)
		rev := limited(0)
		rev.Name = fmt.Sprint("r", rapid.IntRange(0, 1000).Draw(t, "revision"))
		before, after := names(translate.Subset(rev, places, without)), names(translate.Subset(rev, places, all))
		if len(before) != min(places, n) || len(after) != min(places, n+1) || !slices.IsSorted(after) {
			t.Fatalf("%d places: %v of %d, then %v", places, before, n, after)
		}
		name := all[newcomer].Name
		enters := translate.Enters(translate.Revision(rev).Name, places, before, name)
		if enters != slices.Contains(after, name) || !enters && !slices.Equal(before, after) {
			t.Fatalf("enters %v: %v became %v with %s", enters, before, after, name)
		}
		for _, a := range after {
			if a != name && !slices.Contains(before, a) {
				t.Fatalf("%v became %v: %s came though it is not new", before, after, a)
			}
		}
	})
}

// TestRevisionsAreSpread: no activator has many more Revisions than another.
func TestRevisionsAreSpread(t *testing.T) {
	all, has := activators(5), map[string]int{}
	for i := range 400 {
		rev := limited(0)
		rev.Name = fmt.Sprint("r", i)
		has[translate.Subset(rev, 1, all)[0].Name]++
	}
	for _, a := range all { // 80 each on average
		if has[a.Name] < 40 {
			t.Errorf("%s has %d of 400 revisions", a.Name, has[a.Name])
		}
	}
}

func names(endpoints []ir.Endpoint) []string {
	var all []string
	for _, e := range endpoints {
		all = append(all, e.Name)
	}
	return all
}

func BenchmarkEndpoints(b *testing.B) {
	current := settings.Default()
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n, " pods"), func(b *testing.B) {
			rev, pods, all := limited(0), readyPods(n), activators(3)
			b.ReportAllocs()
			for b.Loop() {
				translate.Endpoints(rev, pods, all, none, current)
			}
		})
	}
}

func BenchmarkAssignment(b *testing.B) {
	current := settings.Default()
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n, " pods"), func(b *testing.B) {
			rev, pods, all := limited(10), readyPods(n), activators(3)
			b.ReportAllocs()
			for b.Loop() {
				translate.Assignment(rev, pods, all, none, current)
			}
		})
	}
}

func BenchmarkRoute(b *testing.B) {
	current := settings.Default()
	hundred := int64(100)
	rt := &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello", UID: "r1"}}
	rt.Status.URL = "http://hello.default.example.com"
	rt.Status.Traffic = []v1.TrafficTarget{{RevisionName: "hello-00001", Percent: &hundred}}
	rev := limited(0)
	lookup := func(string) *v1.Revision { return rev }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := translate.Route(rt, lookup, func(string) bool { return false }, current); err != nil {
			b.Fatal(err)
		}
	}
}
