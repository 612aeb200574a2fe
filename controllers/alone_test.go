package controllers_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

func (p *platform) configuration(ns, name, image string) *v1.Configuration {
	return &v1.Configuration{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: p.service(ns, name, image).Spec.ConfigurationSpec}
}

func routeReady(r *v1.Route) string {
	if r.Status.ObservedGeneration != r.Generation {
		return "the status is of an earlier generation"
	}
	return says(r.Status.Conditions, v1.ConditionReady, yes, "", "")
}

// alone: a Configuration and Routes to it, without a Service.
func alone(t *testing.T, p *platform, ns string) {
	c := p.configuration(ns, "", "app:v1")
	c.GenerateName = "bare-"
	p.create(t, c)
	p.pod(t, ns, c.Name+"-00001", "bare-1", up)
	eventually(t, p, &v1.Configuration{}, ns, c.Name, "ready", func(c *v1.Configuration) string {
		if c.Status.LatestReadyRevisionName != c.Name+"-00001" || c.Status.ObservedGeneration != 1 {
			return "not yet"
		}
		return says(c.Status.Conditions, v1.ConditionReady, yes, "", "")
	})
	rev := &v1.Revision{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: c.Name + "-00001"}, rev); err != nil {
		t.Fatal(err)
	}
	if _, has := rev.Labels[serving.ServiceLabel]; has {
		t.Errorf("a revision of no Service is labelled %v", rev.Labels)
	}
	p.create(t, &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "follows"}, Spec: v1.RouteSpec{Traffic: []v1.TrafficTarget{
		{ConfigurationName: c.Name, Percent: new(int64(100))}}}})
	p.create(t, &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "fixed"}, Spec: v1.RouteSpec{Traffic: []v1.TrafficTarget{
		{RevisionName: c.Name + "-00001", Percent: new(int64(100)), Tag: "one"}, {ConfigurationName: c.Name, Percent: new(int64(0)), Tag: "next"}}}})
	for _, name := range []string{"follows", "fixed"} {
		r := eventually(t, p, &v1.Route{}, ns, name, "ready", routeReady)
		if r.Status.Traffic[0].RevisionName != c.Name+"-00001" || r.Status.URL != "http://"+name+"."+ns+".example.com" {
			t.Errorf("%s: %+v", name, r.Status.RouteStatusFields)
		}
	}
	update(t, p, &v1.Configuration{}, ns, c.Name, func(c *v1.Configuration) {
		c.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2"
	})
	p.pod(t, ns, c.Name+"-00002", "bare-2", up)
	eventually(t, p, &v1.Route{}, ns, "follows", "at the second revision", func(r *v1.Route) string {
		if r.Status.Traffic[0].RevisionName != c.Name+"-00002" {
			return "not yet"
		}
		return routeReady(r)
	})
	r := eventually(t, p, &v1.Route{}, ns, "fixed", "its second target is at the second revision", func(r *v1.Route) string {
		if r.Status.Traffic[1].RevisionName != c.Name+"-00002" {
			return "not yet"
		}
		return routeReady(r)
	})
	if r.Status.Traffic[0].RevisionName != c.Name+"-00001" || *r.Status.Traffic[0].LatestRevision || !*r.Status.Traffic[1].LatestRevision {
		t.Errorf("traffic %+v", r.Status.Traffic)
	}

	for reason, target := range map[string]v1.TrafficTarget{
		v1.ReasonConfigurationMissing: {ConfigurationName: "nobody", Percent: new(int64(100))},
		v1.ReasonRevisionMissing:      {RevisionName: "nobody-00001", Percent: new(int64(100))},
	} {
		name := strings.ToLower(reason)
		p.create(t, &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: v1.RouteSpec{Traffic: []v1.TrafficTarget{target}}})
		eventually(t, p, &v1.Route{}, ns, name, "it says what is missing", func(r *v1.Route) string {
			return says(r.Status.Conditions, v1.ConditionReady, no, reason, "nobody") +
				says(r.Status.Conditions, v1.RouteIngressReady, unknown, v1.ReasonIngressNotConfigured, "")
		})
	}
	// What was missing comes: the Route is served.
	p.create(t, p.configuration(ns, "nobody", "app:v1"))
	p.pod(t, ns, "nobody-00001", "nobody-1", up)
	eventually(t, p, &v1.Route{}, ns, strings.ToLower(v1.ReasonConfigurationMissing), "served now", routeReady)
	eventually(t, p, &v1.Route{}, ns, strings.ToLower(v1.ReasonRevisionMissing), "served now", routeReady)
}

// handedOn: which labels and annotations of a Service arrive where, and go again.
func handedOn(t *testing.T, p *platform, ns string) {
	s := p.service(ns, "marked", "app:v1")
	s.Labels = map[string]string{"team": "a", "tier": "front"}
	s.Annotations = map[string]string{"example.com/note": "of the service", serving.RolloutDurationAnnotation: "0s"}
	s.Spec.Template.Labels = map[string]string{"app": "mine", "zone": "x"}
	s.Spec.Template.Annotations = map[string]string{"example.com/pod": "of the template", serving.MinScaleAnnotation: "1"}
	p.create(t, s)
	p.pod(t, ns, "marked-00001", "marked-1", up)
	eventually(t, p, &v1.Service{}, ns, "marked", "ready", isReady)

	read := func(o client.Object, name string) client.Object {
		t.Helper()
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	c, r := read(&v1.Configuration{}, "marked"), read(&v1.Route{}, "marked")
	alias, rev := read(&corev1.Service{}, "marked"), read(&v1.Revision{}, "marked-00001")
	d := read(&appsv1.Deployment{}, "marked-00001-deployment").(*appsv1.Deployment)
	pods := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta}
	const absent = "(absent)"
	get := func(m map[string]string, key string) string {
		if v, ok := m[key]; ok {
			return v
		}
		return absent
	}
	for _, want := range []struct {
		of    client.Object
		label bool
		key   string
		value string
	}{
		{c, true, "team", "a"}, {r, true, "team", "a"}, {alias, true, "team", "a"}, {rev, true, "team", absent}, {pods, true, "team", absent},
		{c, true, serving.ServiceLabel, "marked"}, {r, true, serving.ServiceLabel, "marked"}, {alias, true, serving.ServiceLabel, "marked"},
		{rev, true, serving.ServiceLabel, "marked"}, {pods, true, serving.ServiceLabel, "marked"}, {alias, true, serving.RouteLabel, "marked"},
		{c, false, "example.com/note", "of the service"}, {r, false, "example.com/note", "of the service"},
		{alias, false, "example.com/note", "of the service"}, {rev, false, "example.com/note", absent},
		{c, false, serving.RolloutDurationAnnotation, absent}, {r, false, serving.RolloutDurationAnnotation, "0s"}, {alias, false, serving.RolloutDurationAnnotation, absent},
		{rev, true, "zone", "x"}, {d, true, "zone", "x"}, {pods, true, "zone", "x"}, {c, true, "zone", absent},
		{pods, true, "app", "mine"}, {pods, true, serving.RevisionLabel, "marked-00001"}, {pods, true, serving.ConfigurationLabel, "marked"},
		{pods, true, serving.ConfigurationGenerationLabel, "1"}, {pods, true, serving.RoutingStateLabel, absent},
		{rev, false, "example.com/pod", "of the template"}, {d, false, "example.com/pod", "of the template"}, {pods, false, "example.com/pod", "of the template"},
		{rev, false, serving.MinScaleAnnotation, "1"}, {pods, false, serving.MinScaleAnnotation, absent},
	} {
		values, what := want.of.GetAnnotations(), "annotation"
		if want.label {
			values, what = want.of.GetLabels(), "label"
		}
		if got := get(values, want.key); got != want.value {
			t.Errorf("%T %s: %s %s is %q, want %q", want.of, want.of.GetName(), what, want.key, got, want.value)
		}
	}

	update(t, p, &v1.Service{}, ns, "marked", func(s *v1.Service) {
		delete(s.Labels, "team")
		delete(s.Annotations, "example.com/note")
		s.Labels["tier"] = "back"
	})
	for _, o := range []client.Object{&v1.Configuration{}, &v1.Route{}, &corev1.Service{}} {
		eventually(t, p, o, ns, "marked", "the label is gone", func(o client.Object) string {
			if get(o.GetLabels(), "team") != absent || get(o.GetAnnotations(), "example.com/note") != absent || o.GetLabels()["tier"] != "back" {
				return "not yet"
			}
			return ""
		})
	}
	list := &v1.RevisionList{}
	if err := p.List(t.Context(), list, client.InNamespace(ns)); err != nil || len(list.Items) != 1 {
		t.Errorf("labels of the Service made %d revisions (%v)", len(list.Items), err)
	}
}

// longName: a name that leaves no room for a Revision's number.
func longName(t *testing.T, p *platform, ns string) {
	name := strings.Repeat("n", 63)
	p.create(t, p.service(ns, name, "app:v1"))
	c := eventually(t, p, &v1.Configuration{}, ns, name, "has a revision", func(c *v1.Configuration) string {
		if c.Status.LatestCreatedRevisionName == "" {
			return "not yet"
		}
		return ""
	})
	rev := c.Status.LatestCreatedRevisionName
	if len(rev) > 63 || !strings.HasSuffix(rev, "-00001") {
		t.Errorf("the revision is called %q", rev)
	}
	p.pod(t, ns, rev, "long-1", up)
	eventually(t, p, &v1.Service{}, ns, name, "ready", isReady)
}

// paused: nothing changes for a paused object, and all that was missed is done afterwards.
func paused(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "still")
	pause := func(o client.Object, value string) {
		a := o.GetAnnotations()
		if a == nil {
			a = map[string]string{}
		}
		a[serving.PausedAnnotation] = value
		o.SetAnnotations(a)
	}
	update(t, p, &v1.Service{}, ns, "still", func(s *v1.Service) {
		pause(s, "true")
		s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2"
	})
	s := eventually(t, p, &v1.Service{}, ns, "still", "it says so", func(s *v1.Service) string {
		return says(s.Status.Conditions, v1.ConditionPaused, yes, "", serving.PausedAnnotation)
	})
	if s.Status.ObservedGeneration == s.Generation || s.Status.Conditions.Get(v1.ConditionPaused).Severity != v1.SeverityInfo {
		t.Errorf("a paused Service has status %+v", s.Status)
	}
	c := &v1.Configuration{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "still"}, c); err != nil || c.Generation != 1 {
		t.Errorf("the configuration is at generation %d (%v)", c.Generation, err)
	}
	// The Revision too: its Deployment is whoever's who edits it.
	update(t, p, &v1.Revision{}, ns, "still-00001", func(r *v1.Revision) { pause(r, "true") })
	eventually(t, p, &v1.Revision{}, ns, "still-00001", "it says so", func(r *v1.Revision) string {
		return says(r.Status.Conditions, v1.ConditionPaused, yes, "", "") + says(r.Status.Conditions, v1.ConditionReady, yes, "", "")
	})
	update(t, p, &appsv1.Deployment{}, ns, "still-00001-deployment", func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = "example.com/debug:v1"
	})
	p.kubelet(t, ns, "still-1", waiting("ErrImagePull", "no such image")) // wakes the revision's controller
	p.ready(t, ns, "after")                                               // which has looked by the time this one is ready
	d := &appsv1.Deployment{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "still-00001-deployment"}, d); err != nil || d.Spec.Template.Spec.Containers[0].Image != "example.com/debug:v1" {
		t.Errorf("the deployment runs %s (%v)", d.Spec.Template.Spec.Containers[0].Image, err)
	}

	update(t, p, &v1.Revision{}, ns, "still-00001", func(r *v1.Revision) { delete(r.Annotations, serving.PausedAnnotation) })
	eventually(t, p, &appsv1.Deployment{}, ns, "still-00001-deployment", "the deployment is the revision's again", func(d *appsv1.Deployment) string {
		if d.Spec.Template.Spec.Containers[0].Image == "example.com/debug:v1" {
			return "not yet"
		}
		return ""
	})
	update(t, p, &v1.Service{}, ns, "still", func(s *v1.Service) { pause(s, "false") })
	p.pod(t, ns, "still-00002", "still-2", up)
	eventually(t, p, &v1.Service{}, ns, "still", "the change is made", func(s *v1.Service) string {
		if s.Status.LatestReadyRevisionName != "still-00002" || s.Status.Conditions.Get(v1.ConditionPaused) != nil {
			return "not yet"
		}
		return isReady(s)
	})
	for _, o := range []client.Object{&v1.Configuration{}, &v1.Route{}} {
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "still"}, o); err != nil || o.GetAnnotations()[serving.PausedAnnotation] != "" {
			t.Errorf("%T has %v (%v)", o, o.GetAnnotations(), err)
		}
	}
	meta := metav1.ObjectMeta{Namespace: ns, Name: "born-so", Annotations: map[string]string{serving.PausedAnnotation: "true"}}
	p.create(t, &v1.Configuration{ObjectMeta: meta, Spec: p.configuration(ns, "", "app:v1").Spec})
	p.create(t, &v1.Route{ObjectMeta: meta, Spec: v1.RouteSpec{Traffic: []v1.TrafficTarget{{ConfigurationName: "born-so", Percent: new(int64(100))}}}})
	eventually(t, p, &v1.Configuration{}, ns, "born-so", "it says so", func(c *v1.Configuration) string {
		return says(c.Status.Conditions, v1.ConditionPaused, yes, "", "")
	})
	eventually(t, p, &v1.Route{}, ns, "born-so", "it says so", func(r *v1.Route) string {
		return says(r.Status.Conditions, v1.ConditionPaused, yes, "", "")
	})
	if list := (&v1.RevisionList{}); p.List(t.Context(), list, client.InNamespace(ns)) != nil || len(list.Items) != 3 {
		t.Errorf("%d revisions, want 2 of still and 1 of after", len(list.Items))
	}
}
