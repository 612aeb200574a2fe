package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestLastStartIsExplained: `ebb explain` says where the time of the last start from zero went, every
// step of it: the node of the embedded default tells them exactly.
func TestLastStartIsExplained(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("hello", nil)
	n.MustFetch(t, n.URL("hello", "/"))
	var x struct {
		Revisions []struct {
			LastStart *struct {
				Complete, Coarse bool
				Parts            []struct {
					Step                                string
					SinceMilliseconds, TookMilliseconds float64
				}
			}
		}
	}
	eventually(t, n, func(out string) bool {
		return json.Unmarshal([]byte(out), &x) == nil && len(x.Revisions) == 1 && x.Revisions[0].LastStart != nil && x.Revisions[0].LastStart.Complete
	}, "explain", "hello", "-n", n.In, "-o", "json")
	start := x.Revisions[0].LastStart
	var steps []string
	last := 0.0
	for _, p := range start.Parts {
		steps = append(steps, p.Step)
		if p.SinceMilliseconds < last || p.TookMilliseconds < 0 {
			t.Errorf("the steps are not in order: %+v", start.Parts)
		}
		last = p.SinceMilliseconds
	}
	want := []string{"scaled", "created", "scheduled", "pulled", "started", "probed", "forwarded"}
	if n.OnCluster() { // a kubelet says seconds, and not when an image was there
		want = slices.DeleteFunc(want, func(step string) bool { return step == "pulled" })
	}
	if start.Coarse != n.OnCluster() || !slices.Equal(steps, want) {
		t.Errorf("the steps are %+v, want %v", start, want)
	}
	out := command(t, n, "explain", "hello")
	matches(t, "explain", out, `(?m)^hello is ready\n`)
	matches(t, "explain", out, `(?m)^last start from zero, \S+ ago: [1-9]\d*\.\d ms\n(?s:.*)^forwarded +\d+\.\d ms +\d+\.\d ms +the first request on its way to it$`)
	t.Logf("\n%s", out)
}

// TestCauseIsExplained: `ebb explain` of a Service that is not Ready ends at what the container said, and
// says what to do.
func TestCauseIsExplained(t *testing.T) {
	n := begin(t)
	bad := n.Service("bad", func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "FAIL_AT_START", Value: "the database is on fire"}}
	})
	if err := n.Create(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	n.AwaitService("bad", func(s *v1.Service) error {
		if !s.Status.Conditions.Get(v1.ConditionReady).IsFalse() {
			return fmt.Errorf("not failed: %s", platform.Describe(s.Status.Conditions))
		}
		return nil
	})
	out := command(t, n, "explain", "bad")
	for _, pattern := range []string{`(?m)^bad is not ready\n  service bad: `, `(?m)^  configuration bad: `, `(?s)\n  cause: (pod|revision) bad-00001\S*,? .*the database is on fire`, "(?m)^  next: `ebb logs bad --previous`"} {
		matches(t, "explain", out, pattern)
	}
	t.Logf("\n%s", out)
}

// TestVersion: all that can be known here is known.
func TestVersion(t *testing.T) {
	n := begin(t)
	out, errOut, err := n.Command(t.Context(), "", "version")
	if err != nil {
		t.Fatalf("%v %s", err, errOut)
	}
	for _, pattern := range []string{`(?m)^Ebb: +\S+$`, `(?m)^Go: +go1\.\d+`, `(?m)^Kubernetes: +v1\.\d+`, `(?m)^Controller: +\S+$`} {
		matches(t, "version", out, pattern)
	}
}
