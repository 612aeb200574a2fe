package install

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/cmd/ebb/up"
	"ebb.dev/ebb/config"
	objects "ebb.dev/ebb/config/install"
	"ebb.dev/ebb/test/kubetest"
)

// output of a command, read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// cluster is a kube-apiserver with the controllers of Kubernetes that an installation meets. There is no kubelet: pods become
// ready when the test says so.
type cluster struct {
	*installer
	config *rest.Config
	out    *output
}

func newCluster(t *testing.T) *cluster {
	config := kubetest.Start(t)
	kubetest.Controllers(t, config, "deployment-controller", "replicaset-controller", "statefulset-controller", "persistentvolumeclaim-protection-controller", "garbage-collector-controller", "namespace-controller")
	c, err := newClient(config)
	if err != nil {
		t.Fatal(err)
	}
	out := &output{}
	return &cluster{&installer{Client: c, version: "v1", say: up.NewProgress(out), wait: true}, config, out}
}

// kubelet makes pods ready as they come, until the test ends, and notes of which part they are.
func (c *cluster) kubelet(t *testing.T) *[]string {
	ctx, stop := context.WithCancel(t.Context())
	watcher, err := client.NewWithWatch(c.config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	w, err := watcher.Watch(ctx, &corev1.PodList{}, client.InNamespace(objects.Namespace))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range w.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			if pod.DeletionTimestamp != nil {
				zero := int64(0)
				_ = watcher.Delete(ctx, pod, &client.DeleteOptions{GracePeriodSeconds: &zero})
				continue
			}
			if pod.Status.Phase == corev1.PodRunning {
				continue
			}
			parts = append(parts, pod.Labels[objects.ComponentLabel])
			pod.Status.Phase = corev1.PodRunning
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
			if err := watcher.Status().Update(ctx, pod); err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
				t.Errorf("pod %s: %v", pod.Name, err)
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return &parts
}

func values() objects.Values {
	v := objects.Default()
	v.Image.Repository = "registry.example.com/ebb"
	return v
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// everything that is on the API server but what it and its controllers keep for themselves.
func (c *cluster) everything(t *testing.T) map[string]bool {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	_, kinds, err := d.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, list := range kinds {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") || r.Kind == "Event" || r.Kind == "APIService" || r.Kind == "ComponentStatus" {
				continue
			}
			var items unstructured.UnstructuredList
			items.SetGroupVersionKind(gv.WithKind(r.Kind + "List"))
			if err := c.List(t.Context(), &items); err != nil {
				t.Fatalf("%s: %v", r.Kind, err)
			}
			for n := range items.Items {
				o := &items.Items[n]
				all[r.Kind+" "+o.GetNamespace()+"/"+o.GetName()] = true
			}
		}
	}
	return all
}

// TestInstall: everything is there and works, once more changes nothing, another version takes away what it has not, a user's
// setting stays; and uninstall leaves what was before, to the last object.
func TestInstall(t *testing.T) {
	c := newCluster(t)
	before := c.everything(t)
	ctx := within(t)
	parts := c.kubelet(t)
	if err := c.install(ctx, values()); err != nil {
		t.Fatalf("%v\n%s", err, c.out)
	}
	order := slices.Compact(slices.Clone(*parts))
	if !slices.Equal(order, []string{"controller", "activator", "gateway", "nats", "eventing"}) {
		t.Errorf("pods came in the order %v", *parts)
	}
	kinds, err := config.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"installing Ebb v1", fmt.Sprintf("%d kinds are served", len(kinds)), "controller: 2 of 2 ready", "activator: 2 of 2 ready", "gateway: 2 of 2 ready", "nats: 1 of 1 ready", "eventing: 2 of 2 ready", "Ebb v1 is installed", "no address yet", "inside the cluster only"} {
		if !strings.Contains(c.out.String(), line) {
			t.Errorf("no line %q in:\n%s", line, c.out)
		}
	}

	// Another field manager's settings and the authority that the controller fills in stay.
	domain := &corev1.ConfigMap{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: objects.Namespace, Name: "config-domain"}, domain); err != nil {
		t.Fatal(err)
	}
	domain.Data["example.com"] = ""
	if err := c.Update(ctx, domain); err != nil {
		t.Fatal(err)
	}
	// What an older version had.
	old := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: objects.Namespace, Name: "config-old"}}
	if err := c.send(ctx, old); err != nil {
		t.Fatal(err)
	}
	list, err := c.inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	list.Objects = append(list.Objects, reference{Version: "v1", Kind: "ConfigMap", Namespace: objects.Namespace, Name: "config-old"})
	if err := c.writeInventory(ctx, list); err != nil {
		t.Fatal(err)
	}
	generation := func() (g []int64) {
		for _, name := range []string{objects.ControllerName, objects.ActivatorName, objects.GatewayName, objects.EventingName} {
			var d appsv1.Deployment
			if err := c.Get(ctx, client.ObjectKey{Namespace: objects.Namespace, Name: name}, &d); err != nil {
				t.Fatal(err)
			}
			g = append(g, d.Generation)
		}
		var s appsv1.StatefulSet
		if err := c.Get(ctx, client.ObjectKey{Namespace: objects.Namespace, Name: objects.NATSName}, &s); err != nil {
			t.Fatal(err)
		}
		return append(g, s.Generation)
	}
	was := generation()
	c.version = "v2"
	if err := c.install(ctx, values()); err != nil {
		t.Fatalf("%v\n%s", err, c.out)
	}
	if now := generation(); !slices.Equal(was, now) {
		t.Errorf("the same again changed Deployments: generations %v, then %v", was, now)
	}
	for _, line := range []string{"upgrading Ebb from v1 to v2", "removed ConfigMap ebb-system/config-old"} {
		if !strings.Contains(c.out.String(), line) {
			t.Errorf("no line %q in:\n%s", line, c.out)
		}
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(domain), domain); err != nil || len(domain.Data) != 2 {
		t.Errorf("config-domain: %v, %v", domain.Data, err)
	}
	if !strings.Contains(c.out.String(), "Domain:    example.com") {
		t.Errorf("the domain is not named:\n%s", c.out)
	}

	// An object of a user: refused, and nothing is gone.
	claim := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"namespace": "default"}}}
	claim.SetGroupVersionKind(schema.GroupVersionKind{Group: "networking.internal.knative.dev", Version: "v1alpha1", Kind: "ClusterDomainClaim"})
	claim.SetName("shop.example.com")
	// Nobody answers admission here.
	for _, hook := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		for _, name := range []string{"serving.admission.ebb.dev", "validation.serving.admission.ebb.dev"} {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: hook})
			u.SetName(name)
			if err := c.Delete(ctx, u); client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
		}
	}
	create := func() error { return c.Create(ctx, claim) }
	for err := create(); err != nil; err = create() { // until the API server has heard that nobody is to be asked
		if ctx.Err() != nil || !strings.Contains(err.Error(), "webhook") {
			t.Fatal(err)
		}
	}
	err = c.uninstall(ctx, false)
	if err == nil || !strings.Contains(err.Error(), "1 of kind ClusterDomainClaim (shop.example.com)") || !strings.Contains(err.Error(), "--all") {
		t.Errorf("uninstall with an object of a user: %v", err)
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(domain), domain); err != nil {
		t.Errorf("the refusal removed something: %v", err)
	}
	if err := c.uninstall(ctx, true); err != nil {
		t.Fatalf("%v\n%s", err, c.out)
	}
	after := c.everything(t)
	for name := range after {
		if !before[name] {
			t.Errorf("left: %s", name)
		}
	}
	if err := c.uninstall(ctx, false); err != nil {
		t.Errorf("uninstall where nothing is: %v", err)
	}
}

// TestUninstallBroken: what eventing holds on to goes where no eventing part and no controller runs.
func TestUninstallBroken(t *testing.T) {
	c := newCluster(t)
	c.wait = false
	ctx := within(t)
	broker := &unstructured.Unstructured{}
	broker.SetGroupVersionKind(schema.GroupVersionKind{Group: "eventing.knative.dev", Version: "v1", Kind: "Broker"})
	broker.SetNamespace("default")
	broker.SetName("held")
	broker.SetFinalizers([]string{eventing.Finalizer})
	if err := c.Create(ctx, broker); err != nil {
		t.Fatal(err)
	}
	if err := c.install(ctx, values()); err != nil {
		t.Fatal(err)
	}
	// From here on every change of a Broker is refused, as nobody answers.
	refused := func() error {
		other := broker.DeepCopy()
		other.SetResourceVersion("")
		other.SetName("other")
		return c.Create(ctx, other, client.DryRunAll)
	}
	for err := refused(); !isRefused(err); err = refused() {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if err := c.uninstall(ctx, true); err != nil {
		t.Fatalf("%v\n%s", err, c.out)
	}
	for _, line := range []string{"no eventing part runs: 1 objects", "its admission is removed first", "Ebb is removed"} {
		if !strings.Contains(c.out.String(), line) {
			t.Errorf("no line %q in:\n%s", line, c.out)
		}
	}
}

func isRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed calling webhook")
}

// TestRestricted: the API server's own admission takes every pod of ours in the namespace as it is labelled.
func TestRestricted(t *testing.T) {
	c := newCluster(t)
	c.wait = false
	for name, change := range map[string]func(*objects.Values){
		"restricted": func(*objects.Values) {},
		"host ports": func(v *objects.Values) {
			v.Gateway.HostPort.Enabled, v.Gateway.Service.Type = true, corev1.ServiceTypeClusterIP
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := values()
			change(&v)
			if err := c.install(within(t), v); err != nil {
				t.Fatal(err)
			}
			stages, err := objects.Stages(v)
			if err != nil {
				t.Fatal(err)
			}
			pods := 0
			for _, s := range stages {
				for _, o := range s.Objects {
					var template corev1.PodTemplateSpec
					switch o := o.(type) {
					case *appsv1.Deployment:
						template = o.Spec.Template
					case *appsv1.StatefulSet:
						template = o.Spec.Template
						// What the StatefulSet's controller adds.
						claim := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-ebb-nats-0"}
						template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: claim}})
					default:
						continue
					}
					pods++
					pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: template.Spec}
					pod.Name, pod.Namespace = o.GetName(), objects.Namespace
					if err := c.Create(t.Context(), pod, client.DryRunAll); err != nil {
						t.Errorf("%s: %v", o.GetName(), err)
					}
				}
			}
			if pods != 5 {
				t.Errorf("%d pods were tried", pods)
			}
			open := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: objects.Namespace, Name: "open"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}}}
			if err := c.Create(t.Context(), open, client.DryRunAll); (err != nil) != (name == "restricted") {
				t.Errorf("a pod that is not restricted: %v", err)
			}
		})
	}
}

// TestTrouble: what keeps pods from running is said with the next step.
func TestTrouble(t *testing.T) {
	waiting := func(reason, message string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "ebb-controller-1", Namespace: objects.Namespace},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Image:                "r/ebb:v1",
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "a\nerror: no kube-apiserver\n"}},
			}}},
		}
	}
	unscheduled := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available"}}}}
	for want, pod := range map[string]*corev1.Pod{
		"cannot be pulled: not found; is it there (`make images`": waiting("ImagePullBackOff", "not found"),
		"with code 1: error: no kube-apiserver (`kubectl logs":    waiting("CrashLoopBackOff", "back-off"),
		"cannot start: no key": waiting("CreateContainerConfigError", "no key"),
		"0/1 nodes":            unscheduled,
		"":                     waiting("ContainerCreating", ""),
	} {
		if got := troubleOf(pod); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestRefused: a cluster with Knative's kinds is left alone.
func TestRefused(t *testing.T) {
	c := newCluster(t)
	kind := &unstructured.Unstructured{}
	kind.SetGroupVersionKind(kindOfKinds)
	if err := c.Get(t.Context(), client.ObjectKey{Name: "services.serving.knative.dev"}, kind); err != nil {
		t.Fatal(err)
	}
	kind.SetLabels(map[string]string{"app.kubernetes.io/name": "knative-serving"})
	if err := c.Update(t.Context(), kind); err != nil {
		t.Fatal(err)
	}
	if err := c.install(within(t), values()); err == nil || !strings.Contains(err.Error(), "docs/knative.md") {
		t.Errorf("beside Knative: %v", err)
	}
	if err := c.Get(t.Context(), client.ObjectKey{Name: objects.Namespace}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
		t.Errorf("something was written: %v", err)
	}
}
