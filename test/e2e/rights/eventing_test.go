package rights

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/config/install"
	"ebb.dev/ebb/eventing/natsserver"
	"ebb.dev/ebb/test/e2e/platform"
	"ebb.dev/ebb/test/envoytest"
)

// eventingIdle are rights of the eventing part that this run does not need.
func eventingIdle() map[right]string {
	all := map[right]string{}
	add := func(why, group string, resources []string, verbs ...string) {
		for _, r := range resources {
			for _, v := range verbs {
				all[right{v, group, r}] = why
			}
		}
	}
	const events, messaging, flows, sources = "eventing.knative.dev", "messaging.knative.dev", "flows.knative.dev", "sources.knative.dev"
	const enforced = "asked for where the cluster has OwnerReferencesPermissionEnforcement, instead of a request"
	add(enforced, events, []string{"brokers/finalizers"}, "update")
	add(enforced, flows, []string{"sequences/finalizers", "parallels/finalizers"}, "update")
	add(enforced, sources, []string{"containersources/finalizers"}, "update")
	add("only for what a Trigger waits for", sources, []string{"apiserversources", "containersources", "sinkbindings"}, "get")
	add("only for what a Trigger waits for", events, []string{"triggers", "brokers"}, "get")
	add("only for an Event that is repeated within minutes", "events.k8s.io", []string{"events"}, "patch")
	return all
}

// TestEventingRights: the same of the eventing part.
func TestEventingRights(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a whole platform; left out under -short")
	}
	log := filepath.Join(t.TempDir(), "audit.log")
	p, err := platform.Start(t.Context(), platform.WithEventing, "--audit-log", log)
	if errors.Is(err, platform.ErrNotBuilt) || errors.Is(err, envoytest.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	t.Run("work", func(t *testing.T) { events(t, p) })
	t.Run("others", func(t *testing.T) { others(t, p) })
	t.Run("lead", func(t *testing.T) { leadEventing(t, p) })
	operators := &rbacv1.ClusterRole{}
	if err := yaml.Unmarshal([]byte(sinksRole), operators); err != nil {
		t.Fatal(err)
	}
	compare(t, log, install.EventingUser, append(install.EventingRights(), operators), eventingIdle())
}

// events has the eventing part do everything that it does with the kube-apiserver.
func events(t *testing.T, p *platform.Platform) {
	n := p.Namespace(t)
	sink := platform.NewSink(t, nil)
	n.MakeReady(`{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: default}}`)

	// An event type is noted when an event of it comes; a Trigger waits for a source.
	n.Make(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: waits, annotations: {knative.dev/dependency: '{"apiVersion": "sources.knative.dev/v1", "kind": "PingSource", "name": "tick"}'}}
spec: {broker: default, subscriber: {uri: ` + sink.URL + `/waits}}
`)
	const toBroker = `sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}`
	n.MakeReady(`{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {name: tick}, spec: {schedule: "* * * * *", ` + toBroker + `}}`)
	trigger := &unstructured.Unstructured{}
	trigger.SetGroupVersionKind(eventingv1.GroupVersion.WithKind("Trigger"))
	trigger.SetName("waits")
	trigger.SetNamespace(n.In)
	n.AwaitCondition(trigger, "Ready", "True")
	n.Send(n.EventsURL(eventingv1.GroupVersion.WithKind("Broker"), "default"), platform.Event{Attributes: map[string]string{"id": "1", "type": "seen", "source": "/test"}})
	sink.Await(t, "/waits", "1")
	every := anyKind(t, n)
	types := &unstructured.UnstructuredList{}
	types.SetAPIVersion("eventing.knative.dev/v1beta2")
	types.SetKind("EventTypeList")
	platform.Until(t, "an EventType has a status", func() error {
		if err := every.List(t.Context(), types, client.InNamespace(n.In)); err != nil {
			return err
		}
		if len(types.Items) == 0 {
			return errors.New("there is none")
		}
		if _, seen, _ := unstructured.NestedInt64(types.Items[0].Object, "status", "observedGeneration"); !seen {
			return errors.New("it has none")
		}
		return nil
	})

	// Channels, and flows, which make Channels and Subscriptions and take them away.
	n.MakeReady(`
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: c}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec: {channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}, subscriber: {uri: ` + sink.URL + `/s}}
`)
	flow := n.MakeReady(`
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: f}
spec: {steps: [{uri: ` + sink.URL + `/1}, {uri: ` + sink.URL + `/2}], reply: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}
---
apiVersion: flows.knative.dev/v1
kind: Parallel
metadata: {name: f}
spec: {branches: [{subscriber: {uri: ` + sink.URL + `/3}}]}
`)
	before := flow[0].DeepCopy()
	steps, _, _ := unstructured.NestedSlice(flow[0].Object, "spec", "steps")
	if err := unstructured.SetNestedSlice(flow[0].Object, steps[:1], "spec", "steps"); err != nil {
		t.Fatal(err)
	}
	if err := n.Patch(t.Context(), flow[0], client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	channels := &unstructured.UnstructuredList{}
	channels.SetAPIVersion("messaging.knative.dev/v1")
	channels.SetKind("ChannelList")
	platform.Until(t, "the second Channel of the Sequence goes", func() error {
		if err := n.List(t.Context(), channels, client.InNamespace(n.In)); err != nil {
			return err
		}
		if len(channels.Items) != 3 {
			return fmt.Errorf("there are %d Channels", len(channels.Items))
		}
		return nil
	})

	// A source that acts as a service account, which may read one kind.
	create(t, n, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "reader"}})
	n.Make(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: ` + n.In + `}]
`)
	may(t, n, "system:serviceaccount:"+n.In+":reader", "watch", "", "configmaps")
	n.MakeReady(`
apiVersion: sources.knative.dev/v1
kind: ApiServerSource
metadata: {name: changes}
spec: {serviceAccountName: reader, mode: Reference, resources: [{apiVersion: v1, kind: ConfigMap}], ` + toBroker + `}
`)
	n.MakeReady(`
apiVersion: sources.knative.dev/v1
kind: ContainerSource
metadata: {name: container}
spec: {` + toBroker + `, template: {spec: {containers: [{name: app, image: ` + n.Image(t, platform.App) + `}]}}}
`)
	bindings(t, n)

	// Everything goes, with what it has in the store.
	for _, kind := range []string{"eventing.knative.dev/v1 Trigger", "eventing.knative.dev/v1 Broker", "messaging.knative.dev/v1 Channel", "messaging.knative.dev/v1 Subscription", "sources.knative.dev/v1 SinkBinding"} {
		version, kind, _ := strings.Cut(kind, " ")
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(version)
		u.SetKind(kind)
		if err := n.DeleteAllOf(t.Context(), u, client.InNamespace(n.In)); err != nil {
			t.Fatal(err)
		}
	}
	platform.Until(t, "Brokers go", func() error {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(eventingv1.GroupVersion.WithKind("BrokerList"))
		if err := n.List(t.Context(), list, client.InNamespace(n.In)); err != nil {
			return err
		}
		if len(list.Items) > 0 {
			return errors.New("there is one")
		}
		return nil
	})
}

// bindings binds one of each kind that has a template of pods, by its name and by its label.
func bindings(t *testing.T, n *platform.Namespace) {
	const labels, template = `{app: bound}`, `{metadata: {labels: {app: bound}}, spec: {restartPolicy: %s, containers: [{name: a, image: a}]}}`
	always, never := fmt.Sprintf(template, "Always"), fmt.Sprintf(template, "Never")
	workload := func(version, kind, spec string) {
		n.Make(fmt.Sprintf(`{apiVersion: %s, kind: %s, metadata: {name: bound, labels: %s}, spec: %s}`, version, kind, labels, spec))
	}
	selected := `selector: {matchLabels: ` + labels + `}, template: ` + always
	workload("apps/v1", "Deployment", `{replicas: 0, `+selected+`}`)
	workload("apps/v1", "ReplicaSet", `{replicas: 0, `+selected+`}`)
	workload("apps/v1", "StatefulSet", `{replicas: 0, serviceName: none, `+selected+`}`)
	workload("apps/v1", "DaemonSet", `{`+selected+`}`)
	workload("batch/v1", "Job", `{suspend: true, template: `+never+`}`)
	workload("batch/v1", "CronJob", `{suspend: true, schedule: "0 0 1 1 *", jobTemplate: {spec: {template: `+never+`}}}`)
	n.Deploy("bound", func(s *v1.Service) {
		s.Labels = map[string]string{"app": "bound"}
		s.Spec.Template.Annotations = map[string]string{serving.MinScaleAnnotation: "0"}
	})
	n.Make(`{apiVersion: serving.knative.dev/v1, kind: Configuration, metadata: {name: alone, labels: ` + labels + `}, spec: {template: {spec: {containers: [{image: "` + n.Image(t, platform.App) + `"}]}}}}`)
	for _, of := range []struct{ version, kind, name string }{
		{"apps/v1", "Deployment", "bound"}, {"apps/v1", "ReplicaSet", "bound"}, {"apps/v1", "StatefulSet", "bound"}, {"apps/v1", "DaemonSet", "bound"},
		{"batch/v1", "Job", "bound"}, {"batch/v1", "CronJob", "bound"}, {"serving.knative.dev/v1", "Service", "bound"}, {"serving.knative.dev/v1", "Configuration", "alone"},
	} {
		for by, subject := range map[string]string{"name": "name: " + of.name, "label": "selector: {matchLabels: " + labels + "}"} {
			bound := n.Make(fmt.Sprintf(`{apiVersion: sources.knative.dev/v1, kind: SinkBinding, metadata: {name: %s-by-%s}, spec: {sink: {uri: "http://sink.example.com"}, subject: {apiVersion: %s, kind: %s, %s}}}`,
				strings.ToLower(of.kind), by, of.version, of.kind, subject))
			if of.kind == "Job" {
				n.AwaitCondition(bound[0], "Ready", "False") // its template cannot be changed
				continue
			}
			n.AwaitCondition(bound[0], "Ready", "True")
		}
	}
}

// anyKind is a client that knows all kinds, whatever their scope.
func anyKind(t *testing.T, n *platform.Namespace) client.Client {
	c, err := client.New(n.Config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// decoded is an object of a manifest.
func decoded(t *testing.T, manifest string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// may waits until the kube-apiserver lets a user do something.
func may(t *testing.T, n *platform.Namespace, user, verb, group, resource string) {
	t.Helper()
	every := anyKind(t, n)
	platform.Until(t, user+" may "+verb+" "+resource, func() error {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: n.In, Verb: verb, Group: group, Resource: resource},
		}}
		if err := every.Create(t.Context(), review); err != nil {
			return err
		}
		if !review.Status.Allowed {
			return errors.New("it may not")
		}
		return nil
	})
}

const sinksRole = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sinks-addressable, labels: {duck.knative.dev/addressable: "true"}}
rules: [{apiGroups: [example.com], resources: [sinks], verbs: [get]}]
`

// others are kinds that Ebb does not know: an operator's ClusterRole with a label has them read.
func others(t *testing.T, p *platform.Platform) {
	n := p.Namespace(t)
	every := anyKind(t, n)
	create := func(manifest string) {
		if err := every.Create(t.Context(), decoded(t, manifest)); err != nil {
			t.Fatal(err)
		}
	}
	create(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sinks.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Sink, listKind: SinkList, plural: sinks, singular: sink}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`)
	platform.Until(t, "the kind is served", func() error {
		u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"address": map[string]any{"url": "http://sink.example.com"}}}}
		u.SetAPIVersion("example.com/v1")
		u.SetKind("Sink")
		u.SetName("other")
		u.SetNamespace(n.In)
		return client.IgnoreAlreadyExists(every.Create(t.Context(), u))
	})
	n.MakeReady(`
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: c}
`)
	create(sinksRole)
	may(t, n, install.EventingUser, "get", "example.com", "sinks")
	n.MakeReady(`
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec: {channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}, subscriber: {ref: {apiVersion: example.com/v1, kind: Sink, name: other}}}
`)
}

// leadEventing has an eventing part work as on a cluster, where it takes the lease; the platform's own goes on beside it. It has a
// store of its own.
func leadEventing(t *testing.T, p *platform.Platform) {
	ctx := t.Context()
	store, err := natsserver.Start(ctx, natsserver.Options{Listen: "127.0.0.1:0", Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Shutdown)
	var output bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.Ebb, "eventing", "--kubeconfig="+filepath.Join(p.Data, "pki", "eventing.kubeconfig"), "--namespace="+install.Namespace,
		"--nats="+store.URL(), "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--inspect-listen=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var lease coordinationv1.Lease
	held := func() error {
		select {
		case err := <-ended:
			t.Fatalf("the eventing part ended: %v\n%s", err, &output)
		default:
		}
		if err := p.Get(ctx, client.ObjectKey{Namespace: install.Namespace, Name: install.EventingName}, &lease); err != nil {
			return err
		}
		if h := lease.Spec.HolderIdentity; h == nil || *h == "" {
			return errors.New("nobody holds it")
		}
		return nil
	}
	platform.Until(t, "the lease is held", held)
	platform.Until(t, "and its Event is written", func() error {
		var list corev1.EventList
		if err := p.List(ctx, &list, client.InNamespace(install.Namespace), client.MatchingFields{"involvedObject.name": install.EventingName}); err != nil {
			return err
		}
		if len(list.Items) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the eventing part ended with %v\n%s", err, &output)
	}
	if err := p.Get(ctx, client.ObjectKeyFromObject(&lease), &lease); err != nil {
		t.Error(err)
	} else if h := lease.Spec.HolderIdentity; h != nil && *h != "" {
		t.Errorf("%s still holds the lease", *h)
	}
}
