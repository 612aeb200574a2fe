package publish

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/members"
)

var oneActivator = []members.Member{{Name: "activator-0", ID: "activator-0@1", Address: netip.MustParseAddrPort("10.9.9.9:8012")}}

// BenchmarkPublish is what one change costs from the object to the discovery server:
// translated, encoded, validated and noted there, with no gateway connected. It is to be
// the same whatever the number of Routes.
func BenchmarkPublish(b *testing.B) {
	for _, routes := range []int{100, 10_000} {
		p, err := New(Options{
			Settings: settings.NewStore(),
			Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		if err != nil {
			b.Fatal(err)
		}
		p.Members(oneActivator)
		for i := range routes {
			if err := p.setRevision(nameOf(i), revisionOf(i), podsOf(i, 1)); err != nil {
				b.Fatal(err)
			}
		}
		for i := range routes {
			p.setRoute(nameOf(i), routeOf(i, routes, 1))
			if problem := p.routes[nameOf(i)].problem; problem != nil {
				b.Fatal(problem)
			}
		}
		p.opened = true
		n := routes // so that every pass over the routes is another state of them
		b.Run(fmt.Sprintf("routes=%d/pod", routes), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n++
				if err := p.setRevision(nameOf(n%routes), revisionOf(n%routes), podsOf(n%routes, 1+n/routes%2)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("routes=%d/route", routes), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n++
				p.setRoute(nameOf(n%routes), routeOf(n%routes, routes, int64(1+n/routes%99)))
			}
		})
	}
}

func nameOf(i int) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("hello-%05d", i)}
}

func metaOf(i int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: nameOf(i).Name, UID: types.UID(fmt.Sprint(i)),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(i), 0))}
}

func revisionOf(i int) *v1.Revision {
	r := &v1.Revision{ObjectMeta: metaOf(i)}
	r.Spec.Containers = []corev1.Container{{Name: "user-container", Image: "example.com/app"}}
	return r
}

// podsOf gives ready pods.
func podsOf(i, n int) []*corev1.Pod {
	pods := make([]*corev1.Pod, n)
	for j := range pods {
		ip := fmt.Sprintf("10.%d.%d.%d", j, i/250, 1+i%250)
		pods[j] = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint(nameOf(i).Name, "-", j),
				Labels: map[string]string{serving.RevisionLabel: nameOf(i).Name}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
	}
	return pods
}

// routeOf splits between the Revision of its name and the next one's, which has a tag too.
func routeOf(i, routes int, percent int64) *v1.Route {
	r := &v1.Route{ObjectMeta: metaOf(i)}
	rest := 100 - percent
	r.Status.URL = "http://" + r.Name + ".default.example.com"
	r.Status.Traffic = []v1.TrafficTarget{
		{RevisionName: r.Name, Percent: &percent},
		{RevisionName: nameOf((i + 1) % routes).Name, Percent: &rest, Tag: "next", URL: "http://next-" + r.Name + ".default.example.com"},
	}
	return r
}
