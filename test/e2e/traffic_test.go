package e2e

import (
	"math"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// says makes a revision that answers with a word of its own.
func says(word string) func(*v1.Service) {
	return func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "TARGET", Value: word}}
	}
}

func percent(revision string, percent int64, tag string) v1.TrafficTarget {
	follows := false
	return v1.TrafficTarget{RevisionName: revision, LatestRevision: &follows, Percent: &percent, Tag: tag}
}

func route(targets ...v1.TrafficTarget) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.Traffic = targets }
}

// deployTwo makes a Service with two revisions, which both keep a pod.
func deployTwo(n *platform.Namespace, name string) {
	n.Deploy(name, func(s *v1.Service) {
		says("one")(s)
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
	})
	n.Change(name, says("two"))
	n.AwaitReady(name)
}

func TestSplitByPercent(t *testing.T) {
	n := begin(t)
	deployTwo(n, "split")
	n.Change("split", route(percent("split-00001", 90, ""), percent("split-00002", 10, "")))
	n.AwaitReady("split")
	const requests, share = 4000, 0.1
	got := 0
	for _, a := range many(t, n, n.URL("split", "/"), requests, 16) {
		switch a.Revision() {
		case "split-00002":
			got++
		case "split-00001":
		default:
			t.Fatalf("answer is %s", a)
		}
	}
	want, sigma := requests*share, math.Sqrt(requests*share*(1-share))
	t.Logf("%d of %d went to the 10 %%: %.1f sigma", got, requests, (float64(got)-want)/sigma)
	if math.Abs(float64(got)-want) > 5*sigma {
		t.Errorf("%d of %d requests went to the revision with 10 %%, want %.0f ± %.0f", got, requests, want, 5*sigma)
	}
}

func TestTagsAndRollback(t *testing.T) {
	n := begin(t)
	deployTwo(n, "web")
	n.Change("web", route(percent("web-00001", 100, "old"), percent("web-00002", 0, "next")))
	s := n.AwaitReady("web")
	for i, a := range many(t, n, n.URL("web", "/"), 200, 8) {
		if a.Body != "web-00001 one\n" {
			t.Fatalf("with 100 %% on the first revision, answer %d is %s", i, a)
		}
	}
	for host, want := range map[string]string{"old-web": "web-00001 one\n", "next-web": "web-00002 two\n"} {
		if a := n.MustFetch(t, n.URL(host, "/")); a.Body != want {
			t.Errorf("%s answers %s, want %q", host, a, want)
		}
		in, err := n.Fetch(t.Context(), platform.Internal, n.InternalURL(host, "/"))
		if err != nil || in.Body != want {
			t.Errorf("%s inside answers %s, %v, want %q", host, in, err, want)
		}
	}
	for _, target := range s.Status.Traffic {
		if !strings.Contains(target.URL, target.Tag+"-web."+n.In+".localhost") {
			t.Errorf("the URL of tag %s is %q", target.Tag, target.URL)
		}
	}

	// A tag that is renamed is found under the new name only.
	n.Change("web", route(percent("web-00001", 100, "old"), percent("web-00002", 0, "canary")))
	n.AwaitReady("web")
	if a := n.MustFetch(t, n.URL("canary-web", "/")); a.Body != "web-00002 two\n" {
		t.Errorf("the renamed tag answers %s", a)
	}
	n.AwaitAnswer(t, platform.External, n.URL("next-web", "/"), func(a platform.Answer) bool { return a.Status == http.StatusNotFound })

	// Forward and back: Ready means that every answer is of the new state.
	for _, step := range []struct{ revision, body string }{{"web-00002", "web-00002 two\n"}, {"web-00001", "web-00001 one\n"}} {
		n.Change("web", route(percent(step.revision, 100, "")))
		n.AwaitReady("web")
		for i, a := range many(t, n, n.URL("web", "/"), 100, 8) {
			if a.Body != step.body {
				t.Fatalf("100 %% is on %s and the Service is Ready, but answer %d is %s", step.revision, i, a)
			}
		}
	}
}

func TestNewRevisionUnderLoad(t *testing.T) {
	n := begin(t)
	n.Deploy("live", says("one"))
	l := startLoad(t, n, n.URL("live", "/"), 8)
	l.await(t, "the first revision answers", func(_ int, by map[string]int) bool { return by["live-00001"] > 100 })
	n.Change("live", says("two"))
	n.AwaitReady("live")
	for i, a := range many(t, n, n.URL("live", "/"), 100, 4) {
		if a.Body != "live-00002 two\n" {
			t.Fatalf("the Service is Ready with its second revision, but answer %d is %s", i, a)
		}
	}
	l.await(t, "the second revision answers", func(_ int, by map[string]int) bool { return by["live-00002"] > 500 })
	n.AwaitPods("live", func(pods []*corev1.Pod) error { return onlyOf(pods, "live-00002") }) // the first one went to zero under the load
	l.check(t)
}
