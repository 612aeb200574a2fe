package controllers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1beta2 "ebb.dev/ebb/apis/eventing/v1beta2"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// published is what came to the topics of the books.
type published struct {
	mu     sync.Mutex
	events map[string][]*event.Event
}

// Publish keeps the event.
func (b *books) Publish(_ context.Context, topic string, e *event.Event) (engine.Stored, error) {
	b.published.mu.Lock()
	defer b.published.mu.Unlock()
	if b.published.events == nil {
		b.published.events = map[string][]*event.Event{}
	}
	b.published.events[topic] = append(b.published.events[topic], e)
	return engine.Stored{Sequence: uint64(len(b.published.events[topic]))}, nil
}

func (b *books) eventsOf(topic string) []*event.Event {
	b.published.mu.Lock()
	defer b.published.mu.Unlock()
	return slices.Clone(b.published.events[topic])
}

func pingToBroker(t *testing.T, p *eventingPlatform, namespace string) {
	o := &sourcesv1.PingSource{ObjectMeta: meta(namespace, "ping"), Spec: sourcesv1.PingSourceSpec{
		Schedule: "* * * * * *", ContentType: "application/json", Data: `{"a":1}`,
		SourceSpec: duck.SourceSpec{Sink: toRef("eventing.knative.dev/v1", "Broker", "main"), CloudEventOverrides: &duck.CloudEventOverrides{Extensions: map[string]string{"tenant": "a"}}},
	}}
	p.create(t, o)
	eventually(t, p.platform, o, namespace, "ping", "its sink is missing", func(o *sourcesv1.PingSource) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionFalse, "NotResolved", "Sink: Broker "+namespace+"/main does not exist.")
	})
	p.broker(t, namespace)
	eventually(t, p.platform, o, namespace, "ping", "it is ready", func(o *sourcesv1.PingSource) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	})
	if len(o.Status.CloudEventAttributes) != 1 || o.Status.CloudEventAttributes[0].Type != "dev.knative.sources.ping" || o.Status.Annotations[sourcesv1.LastTickAnnotation] == "" {
		t.Errorf("the status is %+v", o.Status)
	}
	topics, _ := p.books.of(namespace)
	until(t, "three ticks came", func() error {
		if n := len(p.books.eventsOf(topics[0].Name)); n < 3 {
			return fmt.Errorf("%d came", n)
		}
		return nil
	})
	ticks := map[string]bool{}
	for _, e := range p.books.eventsOf(topics[0].Name) {
		if ticks[e.ID] {
			t.Errorf("%s came twice", e.ID)
		}
		ticks[e.ID] = true
		if v, _ := e.Get("tenant"); v != "a" || string(e.Data) != `{"a":1}` || !strings.HasPrefix(e.ID, string(o.UID)) {
			t.Errorf("the event is %+v", e)
		}
	}
	until(t, "the broker has an event type", func() error {
		list := &eventingv1beta2.EventTypeList{}
		if err := p.List(t.Context(), list, client.InNamespace(namespace)); err != nil || len(list.Items) != 1 || list.Items[0].Spec.Type != "dev.knative.sources.ping" {
			return fmt.Errorf("%w, %+v", err, list.Items)
		}
		return nil
	})
	p.delete(t, o)
}

func pingToURI(t *testing.T, p *eventingPlatform, namespace string) {
	got := make(chan *event.Event, 100)
	var first atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first.Swap(true) { // it is tried again
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		e, err := event.FromBinary(r.Header, nil, event.Limits{})
		if err != nil {
			t.Error(err)
		} else {
			got <- e
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	o := &sourcesv1.PingSource{ObjectMeta: meta(namespace, "ping"), Spec: sourcesv1.PingSourceSpec{
		Schedule: "@every 1s", SourceSpec: duck.SourceSpec{Sink: toURI(server.URL)},
	}}
	p.create(t, o)
	for range 2 {
		select {
		case e := <-got:
			if e.Type != "dev.knative.sources.ping" || e.Source != "/apis/v1/namespaces/"+namespace+"/pingsources/ping" {
				t.Errorf("the event is %+v", e)
			}
		case <-time.After(time.Minute):
			t.Fatal("no tick came within a minute")
		}
	}
	p.delete(t, o)
}

func containerSource(t *testing.T, p *eventingPlatform, namespace string) {
	o := &sourcesv1.ContainerSource{ObjectMeta: meta(namespace, "beat"), Spec: sourcesv1.ContainerSourceSpec{
		SourceSpec: duck.SourceSpec{Sink: toRef("messaging.knative.dev/v1", "Channel", "first"), CloudEventOverrides: &duck.CloudEventOverrides{Extensions: map[string]string{"tenant": "a"}}},
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "a", Image: "example.com/beat", Env: []corev1.EnvVar{{Name: "MINE", Value: "1"}, {Name: "K_SINK", Value: "wrong"}}}, {Name: "b", Image: "example.com/beat"},
		}}},
	}}
	p.create(t, o)
	eventually(t, p.platform, o, namespace, "beat", "its sink is missing", func(o *sourcesv1.ContainerSource) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionFalse, "NotResolved", "Channel "+namespace+"/first does not exist.")
	})
	p.create(t, &messagingv1.Channel{ObjectMeta: meta(namespace, "first")})
	d := eventually(t, p.platform, &appsv1.Deployment{}, namespace, "beat-deployment", "there is a deployment", func(*appsv1.Deployment) string { return "" })
	sink := "http://broker-ingress.ebb-system.svc.cluster.local/channels/" + namespace + "/first"
	for i, want := range []string{"MINE=1 K_SINK=" + sink + ` K_CE_OVERRIDES={"extensions":{"tenant":"a"}}`, "K_SINK=" + sink + ` K_CE_OVERRIDES={"extensions":{"tenant":"a"}}`} {
		if got := environment(d.Spec.Template.Spec.Containers[i]); got != want {
			t.Errorf("container %d has %s, want %s", i, got, want)
		}
	}
	if !metav1.IsControlledBy(d, o) {
		t.Errorf("the deployment is owned by %v", d.OwnerReferences)
	}
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}}
	until(t, "the deployment is available", func() error { return p.Status().Update(t.Context(), d) })
	eventually(t, p.platform, o, namespace, "beat", "it is ready", func(o *sourcesv1.ContainerSource) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	})
	// A template that the API server does not take.
	update(t, p.platform, o, namespace, "beat", func(o *sourcesv1.ContainerSource) { o.Spec.Template.Spec.Containers[0].ImagePullPolicy = "Sometimes" })
	eventually(t, p.platform, o, namespace, "beat", "the refusal is shown", func(o *sourcesv1.ContainerSource) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionFalse, "FailedCreate", "Sometimes")
	})
}

func environment(c corev1.Container) string {
	var out []string
	for _, v := range c.Env {
		out = append(out, v.Name+"="+v.Value)
	}
	return strings.Join(out, " ")
}

func template(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "a", Image: "a", Env: []corev1.EnvVar{{Name: "MINE", Value: "1"}}}},
	}}
}

func sinkBinding(t *testing.T, p *eventingPlatform, namespace string) {
	labels := map[string]string{"app": "a"}
	binding := func(name string, subject sourcesv1.Subject) *sourcesv1.SinkBinding {
		o := &sourcesv1.SinkBinding{ObjectMeta: meta(namespace, name), Spec: sourcesv1.SinkBindingSpec{SourceSpec: duck.SourceSpec{Sink: toURI("http://sink/")}, Subject: subject}}
		p.create(t, o)
		return o
	}
	says := func(name, status, reason, message string) {
		t.Helper()
		eventually(t, p.platform, &sourcesv1.SinkBinding{}, namespace, name, "the binding says so", func(o *sourcesv1.SinkBinding) string {
			return says(o.Status.Conditions, "Ready", corev1.ConditionStatus(status), reason, message)
		})
	}
	// By name, of a Deployment that comes later.
	one := binding("one", sourcesv1.Subject{APIVersion: "apps/v1", Kind: "Deployment", Name: "worker"})
	says("one", "False", "SubjectMissing", "There is no Deployment of apps/v1 in namespace "+namespace+" called worker.")
	p.create(t, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "worker"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels),
	}})
	bound := func(want string) {
		t.Helper()
		eventually(t, p.platform, &appsv1.Deployment{}, namespace, "worker", "the deployment has the variables", func(d *appsv1.Deployment) string {
			if got := environment(d.Spec.Template.Spec.Containers[0]); got != want {
				return got + " should be " + want
			}
			return ""
		})
	}
	bound("MINE=1 K_SINK=http://sink/ K_CE_OVERRIDES=")
	says("one", "True", "", "")
	update(t, p.platform, one, namespace, "one", func(o *sourcesv1.SinkBinding) { o.Spec.Sink = toURI("http://other/") })
	bound("MINE=1 K_SINK=http://other/ K_CE_OVERRIDES=")
	p.delete(t, one)
	bound("MINE=1")

	// By labels, of CronJobs and of a Service.
	p.create(t, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cron", Labels: labels}, Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: jobTemplate(labels)}},
	}})
	binding("cron", sourcesv1.Subject{APIVersion: "batch/v1", Kind: "CronJob", Selector: &metav1.LabelSelector{MatchLabels: labels}})
	says("cron", "True", "", "")
	c := &batchv1.CronJob{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "cron"}, c); err != nil {
		t.Fatal(err)
	}
	if got := environment(c.Spec.JobTemplate.Spec.Template.Spec.Containers[0]); got != "MINE=1 K_SINK=http://sink/ K_CE_OVERRIDES=" {
		t.Errorf("the cron job has %s", got)
	}
	s := p.service(namespace, "hello", "app:v1")
	p.create(t, s)
	binding("service", sourcesv1.Subject{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "hello"})
	says("service", "True", "", "")
	eventually(t, p.platform, &v1.Service{}, namespace, "hello", "the service has the variables", func(s *v1.Service) string {
		if got := environment(s.Spec.Template.Spec.Containers[0]); got != "K_SINK=http://sink/ K_CE_OVERRIDES=" {
			return got
		}
		return ""
	})
	// What cannot be bound says why.
	p.create(t, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "job"}, Spec: batchv1.JobSpec{Template: jobTemplate(labels)}})
	binding("job", sourcesv1.Subject{APIVersion: "batch/v1", Kind: "Job", Name: "job"})
	says("job", "False", "SubjectRefused", "the template of Job job cannot be changed any more")
	p.create(t, &corev1.ConfigMap{ObjectMeta: meta(namespace, "plain")})
	binding("plain", sourcesv1.Subject{APIVersion: "v1", Kind: "ConfigMap", Name: "plain"})
	says("plain", "False", "SubjectRefused", "ConfigMap "+namespace+"/plain has no pod template.")
	binding("nothing", sourcesv1.Subject{APIVersion: "example.com/v1", Kind: "Thing", Name: "a"})
	says("nothing", "False", "SubjectRefused", "Thing")
}

func jobTemplate(labels map[string]string) corev1.PodTemplateSpec {
	template := template(labels)
	template.Labels, template.Spec.RestartPolicy = nil, corev1.RestartPolicyNever
	return template
}

func apiServerSource(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	b := p.brokerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	before := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "before", Labels: map[string]string{"watched": "yes"}}}
	p.create(t, before)
	p.create(t, &corev1.ServiceAccount{ObjectMeta: meta(namespace, "watcher")})
	o := &sourcesv1.ApiServerSource{ObjectMeta: meta(namespace, "maps"), Spec: sourcesv1.ApiServerSourceSpec{
		SourceSpec:         duck.SourceSpec{Sink: toRef("eventing.knative.dev/v1", "Broker", "main"), CloudEventOverrides: &duck.CloudEventOverrides{Extensions: map[string]string{"tenant": "a"}}},
		Resources:          []sourcesv1.APIVersionKindSelector{{APIVersion: "v1", Kind: "ConfigMap", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"watched": "yes"}}}},
		ServiceAccountName: "watcher",
		Filters:            []duck.SubscriptionsAPIFilter{{Not: &duck.SubscriptionsAPIFilter{Exact: map[string]string{"name": "secret"}}}},
	}}
	p.create(t, o)
	saying := func(status corev1.ConditionStatus, reason, message string) {
		t.Helper()
		eventually(t, p.platform, o, namespace, "maps", "the source says so", func(o *sourcesv1.ApiServerSource) string {
			return says(o.Status.Conditions, "Ready", status, reason, message)
		})
	}
	saying(corev1.ConditionFalse, "Forbidden", `User "system:serviceaccount:`+namespace+`:watcher" cannot list resource "configmaps"`)
	p.create(t, &rbacv1.Role{ObjectMeta: meta(namespace, "watcher"), Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "watch"}}}})
	p.create(t, &rbacv1.RoleBinding{ObjectMeta: meta(namespace, "watcher"), RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "watcher"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: "watcher"}}})
	saying(corev1.ConditionTrue, "", "")
	if len(o.Status.Namespaces) != 1 || o.Status.Namespaces[0] != namespace || len(o.Status.CloudEventAttributes) != 3 {
		t.Errorf("the status is %+v", o.Status)
	}

	labels := map[string]string{"watched": "yes"}
	p.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "secret", Labels: labels}})
	p.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "unwatched"}})
	one := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "one", Labels: labels}}
	p.create(t, one)
	one.Data = map[string]string{"a": "b"}
	if err := p.Update(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	topic := b.Status.Annotations["ebb.dev/topic"]
	came := func() (got []string) {
		for _, e := range p.books.eventsOf(topic) {
			got = append(got, e.Type+" "+e.Subject)
		}
		return got
	}
	path := " /apis/v1/namespaces/" + namespace + "/configmaps/"
	want := []string{"dev.knative.apiserver.ref.add" + path + "before", "dev.knative.apiserver.ref.add" + path + "one", "dev.knative.apiserver.ref.update" + path + "one", "dev.knative.apiserver.ref.delete" + path + "one"}
	until(t, "all changes came", func() error {
		if got := came(); !slices.Equal(got, want) {
			return fmt.Errorf("%q came, want %q", got, want)
		}
		return nil
	})
	e := p.books.eventsOf(topic)[0]
	if v, _ := e.Get("kind"); v != "ConfigMap" || !strings.Contains(string(e.Data), `"uid":"`+string(before.UID)+`"`) {
		t.Errorf("the event is %+v %s", e, e.Data)
	}
	// With the objects, from now on.
	update(t, p.platform, o, namespace, "maps", func(o *sourcesv1.ApiServerSource) { o.Spec.EventMode = sourcesv1.ResourceMode })
	eventually(t, p.platform, o, namespace, "maps", "the mode is taken", func(o *sourcesv1.ApiServerSource) string {
		if kind := o.Status.CloudEventAttributes[0].Type; kind != "dev.knative.apiserver.resource.add" {
			return kind
		}
		return says(o.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	})
	before.Data = map[string]string{"whole": "object"}
	if err := p.Update(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	until(t, "the object came", func() error {
		events := p.books.eventsOf(topic)
		last := events[len(events)-1]
		if last.Type != "dev.knative.apiserver.resource.update" || !strings.Contains(string(last.Data), `"whole":"object"`) {
			return fmt.Errorf("the last is %+v", last)
		}
		return nil
	})
	p.delete(t, o)
}
