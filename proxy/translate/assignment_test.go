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

// TestEveryPodHasOneActivator: with a limit the pods are divided among the activators
// that the gateways use, evenly, and no activator is left without one.
func TestEveryPodHasOneActivator(t *testing.T) {
	current := settings.Default()
	rapid.Check(t, func(t *rapid.T) {
		rev := limited(rapid.Int64Range(1, 1000).Draw(t, "limit"))
		pods := readyPods(rapid.IntRange(0, 60).Draw(t, "pods"))
		all := activators(rapid.IntRange(1, 10).Draw(t, "activators"))
		assignment := translate.Assignment(rev, pods, all, none, current)
		endpoints := translate.Endpoints(rev, pods, all, none, current)
		if len(endpoints.Priorities[0]) != 0 {
			t.Fatalf("gateways reach pods with a limit: %v", endpoints.Priorities[0])
		}
		var used []string
		for _, e := range endpoints.Priorities[1] {
			used = append(used, e.Name)
		}
		if len(used) == 0 || !slices.Equal(used, assignment.Activators) {
			t.Fatalf("gateways use %v, assigned are %v", used, assignment.Activators)
		}
		has := map[string]int{}
		for _, p := range assignment.Pods {
			if !slices.Contains(used, p.Activator) {
				t.Fatalf("pod %s belongs to %q, which no gateway uses", p.Name, p.Activator)
			}
			has[p.Activator]++
		}
		for _, name := range used {
			if n := has[name]; len(pods) > 0 && (n < len(pods)/len(used) || n > (len(pods)+len(used)-1)/len(used)) {
				t.Fatalf("%d pods, %d activators: %s has %d", len(pods), len(used), name, n)
			}
		}
	})
}

// TestActivatorsStay: one activator less moves only the revisions it had.
func TestActivatorsStay(t *testing.T) {
	current := settings.Default()
	all := activators(5)
	used := map[string]int{}
	for i := range 200 {
		rev := limited(0)
		rev.Name = fmt.Sprint("r", i)
		before := translate.Endpoints(rev, nil, all, none, current).Priorities[1]
		after := translate.Endpoints(rev, nil, all[:4], none, current).Priorities[1]
		for _, e := range before {
			used[e.Name]++
			if e.Name != all[4].Name && !slices.Contains(after, e) {
				t.Errorf("%s lost %s when another one went", rev.Name, e.Name)
			}
		}
	}
	for _, a := range all { // 80 each on average
		if used[a.Name] < 40 {
			t.Errorf("%s has %d of 400 places", a.Name, used[a.Name])
		}
	}
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
