package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	api "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

func pods(at time.Time) []Pod {
	return []Pod{
		{Namespace: "b", Name: "old", Labels: map[string]string{"app": "x"}, Containers: []Container{{Name: "main", Run: "old/0", Started: at.Add(-time.Hour)}}},
		{Namespace: "a", Name: "two", Containers: []Container{{Name: "main", Run: "two/0", Started: at.Add(-time.Hour)}, {Name: "side", Run: "side/0", Started: at.Add(-time.Hour)}}},
	}
}

func TestMeasure(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := func(run string, started time.Duration) Container {
		return Container{Name: "main", Run: run, Started: at.Add(started)}
	}
	all := []Pod{{Containers: []Container{c("steady", -time.Hour), c("less", -time.Hour), c("young", 2*time.Second), c("newborn", 9900*time.Millisecond), c("gone", -time.Hour)}}}
	before := sample{at: at, node: Reading{CPU: time.Minute, Memory: 5}, runs: map[string]Reading{
		"steady": {CPU: 10 * time.Second, Memory: 1}, "less": {CPU: 10 * time.Second}, "gone": {CPU: time.Second}}}
	after := sample{at: at.Add(10 * time.Second), node: Reading{CPU: time.Minute + 15*time.Second, Memory: 6}, runs: map[string]Reading{
		"steady": {CPU: 15 * time.Second, Memory: 2}, "less": {CPU: 9 * time.Second}, "young": {CPU: 2 * time.Second}, "newborn": {CPU: time.Second}}}
	m := measure(before, after, all)
	if want := (Usage{CPU: 1.5, Memory: 6, Window: 10 * time.Second}); m.Node != want || !m.At.Equal(after.at) {
		t.Errorf("the node uses %+v at %v", m.Node, m.At)
	}
	want := map[string]Usage{
		"steady": {CPU: 0.5, Memory: 2, Window: 10 * time.Second},
		"less":   {Window: 10 * time.Second},           // never below zero
		"young":  {CPU: 0.25, Window: 8 * time.Second}, // since it began
	} // a newborn's rate would be anything; what is gone has none
	if len(m.Runs) != len(want) {
		t.Errorf("measured are %+v", m.Runs)
	}
	for run, u := range want {
		if m.Runs[run] != u {
			t.Errorf("%s uses %+v, want %+v", run, m.Runs[run], u)
		}
	}
}

// A machine in which everything uses half a CPU, and how often it was read.
func halves(reads *int) *Meter {
	m := NewMeter()
	began := time.Now()
	m.read = func(pods []Pod) (sample, error) {
		*reads++
		r := Reading{CPU: time.Since(began) / 2, Memory: 1 << 20}
		s := sample{at: time.Now(), node: r, runs: map[string]Reading{}}
		for _, p := range pods {
			for _, c := range p.Containers {
				s.runs[c.Run] = r
			}
		}
		return s, nil
	}
	return m
}

func TestMeterReadsWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		m := halves(&reads)
		time.Sleep(time.Hour)
		all := pods(time.Now())
		ask := func(wantReads int, window time.Duration) {
			t.Helper()
			got, err := m.Measure(t.Context(), all)
			if err != nil {
				t.Fatal(err)
			}
			if u := got.Runs["old/0"]; u.CPU != 0.5 || u.Window != window || reads != wantReads {
				t.Errorf("%+v after %d reads, want half a CPU over %v after %d", u, reads, window, wantReads)
			}
		}
		ask(2, time.Second) // the first waits for a second reading
		time.Sleep(4 * time.Second)
		ask(2, time.Second) // still fresh
		time.Sleep(6 * time.Second)
		ask(3, 10*time.Second) // since the last reading
		time.Sleep(time.Hour)
		ask(5, time.Second) // that one is too old

		time.Sleep(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, err := m.Measure(ctx, all); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who goes gets %v", err)
		}
	})
}

type source struct{ pods []Pod }

func (s source) Pods() []Pod { return s.pods }
func (s source) Node(context.Context) (*v1.Node, error) {
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "ebb", Labels: map[string]string{"os": "linux"}}}, nil
}

func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		h := Handler(source{pods(time.Now())}, halves(&reads))
		get := func(path string, code int) []byte {
			t.Helper()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/apis/metrics.k8s.io/v1beta1"+path, nil))
			if w.Code != code {
				t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
			}
			return w.Body.Bytes()
		}
		for path, want := range map[string]string{
			"/pods":                       "a/two b/old",
			"/pods?labelSelector=app%3Dx": "b/old",
			"/pods?fieldSelector=metadata.namespace%3Da":   "a/two",
			"/namespaces/a/pods":                           "a/two",
			"/namespaces/a/pods?labelSelector=app%3Dx":     "",
			"/namespaces/none/pods":                        "",
			"/nodes":                                       "/ebb",
			"/nodes?labelSelector=os%3Dplan9":              "",
			"/nodes?fieldSelector=metadata.name%3Danother": "",
		} {
			var list struct {
				metav1.TypeMeta
				Items []metav1.PartialObjectMetadata
			}
			if err := json.Unmarshal(get(path, http.StatusOK), &list); err != nil || list.Items == nil {
				t.Errorf("%s: %v, %v", path, list, err)
			}
			var names []string
			for _, i := range list.Items {
				names = append(names, i.Namespace+"/"+i.Name)
			}
			if got := strings.Join(names, " "); got != want || list.APIVersion != "metrics.k8s.io/v1beta1" {
				t.Errorf("%s has %q of %s, want %q", path, got, list.APIVersion, want)
			}
		}
		var pod api.PodMetrics
		if err := json.Unmarshal(get("/namespaces/a/pods/two", http.StatusOK), &pod); err != nil || len(pod.Containers) != 2 || pod.Window.Duration != time.Second {
			t.Fatalf("%+v, %v", pod, err)
		}
		if u := pod.Containers[1].Usage; u.Cpu().String() != "500m" || u.Memory().String() != "1Mi" || pod.Containers[1].Name != "side" {
			t.Errorf("side uses %v", u)
		}
		var node api.NodeMetrics
		if err := json.Unmarshal(get("/nodes/ebb", http.StatusOK), &node); err != nil || node.Usage.Cpu().MilliValue() != 500 {
			t.Errorf("%+v, %v", node, err)
		}
		var kinds metav1.APIResourceList
		if err := json.Unmarshal(get("", http.StatusOK), &kinds); err != nil || len(kinds.APIResources) != 2 || kinds.GroupVersion != "metrics.k8s.io/v1beta1" {
			t.Errorf("%+v, %v", kinds, err)
		}
		for path, code := range map[string]int{
			"/nodes/other": http.StatusNotFound, "/namespaces/b/pods/two": http.StatusNotFound, "/secrets": http.StatusNotFound,
			"/pods?labelSelector=%3D%3D": http.StatusBadRequest, "/pods?fieldSelector=spec.nodeName%3Debb": http.StatusBadRequest, "/pods?watch=true": http.StatusMethodNotAllowed,
		} {
			var s metav1.Status
			if err := json.Unmarshal(get(path, code), &s); err != nil || s.Kind != "Status" || s.Message == "" {
				t.Errorf("%s: %+v, %v", path, s, err)
			}
		}
	})
}
