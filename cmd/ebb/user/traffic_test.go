package user

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

func revision(name string, ready bool) v1.Revision {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return v1.Revision{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     v1.RevisionStatus{Status: v1.Status{Conditions: v1.Conditions{{Type: v1.ConditionReady, Status: status}}}},
	}
}

func TestParseSplit(t *testing.T) {
	for _, c := range []struct{ args, want, err string }{
		{args: "a=90 b=10", want: "a 90%, b 10%"},
		{args: "a=90% b", want: "a 90%, b 10%"},
		{args: "@latest=100", want: "@latest 100%"},
		{args: "a", want: "a 100%"},
		{args: "", want: ""},
		{args: "a=50", err: "add up to 50"},
		{args: "a=60 b=60", err: "add up to 120"},
		{args: "a b", err: "one may be left out"},
		{args: "a=1 a=99", err: "named twice"},
		{args: "a=x b=1", err: "whole number"},
		{args: "=5", err: "REVISION=PERCENT"},
	} {
		split, err := parseSplit(strings.Fields(c.args))
		var targets []v1.TrafficTarget
		for _, p := range split {
			targets = append(targets, target(p.Revision, p.Percent))
		}
		if got := describeTraffic(targets); c.err == "" && (err != nil || got != c.want) {
			t.Errorf("%q: %q, %v; want %q", c.args, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: error %v, want %q", c.args, err, c.err)
		}
	}
}

func TestTrafficChange(t *testing.T) {
	revisions := []v1.Revision{revision("s-3", true), revision("s-2", false), revision("s-1", true)}
	svc := func(spec, status []v1.TrafficTarget) *v1.Service {
		s := &v1.Service{}
		s.Name, s.Spec.Traffic, s.Status.Traffic = "s", spec, status
		return s
	}
	tagged := target("s-3", 0)
	tagged.Percent, tagged.Tag = nil, "next"
	for _, c := range []struct {
		name   string
		svc    *v1.Service
		change TrafficChange
		want   string
		err    string
	}{
		{name: "split", svc: svc(nil, nil), change: TrafficChange{Split: []Percent{{"s-1", 90}, {"s-3", 10}}}, want: "s-1 90%, s-3 10%"},
		{name: "tags stay", svc: svc([]v1.TrafficTarget{target(latest, 100), tagged}, nil), change: TrafficChange{Split: []Percent{{"s-1", 100}}}, want: "s-1 100%, s-3 (tag next)"},
		{name: "tag", svc: svc(nil, nil), change: TrafficChange{Tags: [][2]string{{"s-1", "old"}}}, want: "@latest 100%, s-1 (tag old)"},
		{name: "a tag moves", svc: svc([]v1.TrafficTarget{target(latest, 100), tagged}, nil), change: TrafficChange{Tags: [][2]string{{"s-1", "next"}}}, want: "@latest 100%, s-1 (tag next)"},
		{name: "untag", svc: svc([]v1.TrafficTarget{target(latest, 100), tagged}, nil), change: TrafficChange{Untag: []string{"next"}}, want: "@latest 100%"},
		{name: "rollback passes a revision that is not ready", svc: svc(nil, []v1.TrafficTarget{target("s-3", 10), target("s-1", 90)}), change: TrafficChange{Rollback: true}, want: "s-1 100%"},
		{name: "nothing before", svc: svc(nil, []v1.TrafficTarget{target("s-1", 100)}), change: TrafficChange{Rollback: true}, err: "oldest ready revision"},
		{name: "unknown revision", svc: svc(nil, nil), change: TrafficChange{Split: []Percent{{"s-9", 100}}}, err: "it has s-3, s-2, s-1"},
		{name: "unknown tag", svc: svc(nil, nil), change: TrafficChange{Untag: []string{"x"}}, err: `no tag "x"`},
		{name: "to latest", svc: svc([]v1.TrafficTarget{target("s-1", 100)}, nil), change: TrafficChange{ToLatest: true}, want: "@latest 100%"},
	} {
		got, err := c.change.apply(c.svc, revisions)
		if c.err == "" && (err != nil || describeTraffic(got) != c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, describeTraffic(got), err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
	}
}

func TestDeploymentCheck(t *testing.T) {
	for _, c := range []struct {
		d        Deployment
		pkg, err string
	}{
		{Deployment{Name: "hello"}, "./hello", ""},
		{Deployment{Name: "Hello_World"}, "", `"hello-world"`},
		{Deployment{Name: "9lives"}, "", `"my-9lives"`},
		{Deployment{Name: "a", Image: "x"}, "./x", "not both"},
		{Deployment{Name: "a"}, "nginx", "--image nginx"},
		{Deployment{Name: "a", Env: []string{"X"}}, "", "NAME=VALUE"},
		{Deployment{Name: "a", Env: []string{"X-", "Y=1", "Z="}}, "", ""},
		{Deployment{Name: "a", Port: 70000}, "", "65535"},
	} {
		err := c.d.check(c.pkg)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%+v %q: error %v, want %q", c.d, c.pkg, err, c.err)
		}
	}
}
