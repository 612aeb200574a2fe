package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/certificate"
	"ebb.dev/ebb/controllers/configuration"
	"ebb.dev/ebb/controllers/domainmapping"
	"ebb.dev/ebb/controllers/gc"
	"ebb.dev/ebb/controllers/hpa"
	"ebb.dev/ebb/controllers/revision"
	"ebb.dev/ebb/controllers/route"
	"ebb.dev/ebb/controllers/service"
	settingscontroller "ebb.dev/ebb/controllers/settings"
	"ebb.dev/ebb/test/kubetest"
)

// platform is all controllers on a real API server.
type platform struct {
	client.Client
	watcher  client.WithWatch
	registry string // host:port, holding app:v1 and app:v2
	gateways *gateways
	store    *settings.Store
	clock    clock // of garbage collection
}

// clock is ahead of the real one by what a test says. Safe for concurrent use.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func start(t *testing.T) *platform {
	t.Helper()
	config := kubetest.Start(t)
	log.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v1.AddToScheme(scheme), v1beta1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Cache: ofRevisions(), Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	store := settings.NewStore()
	p := &platform{store: store, gateways: &gateways{
		states: map[string]state{}, changes: make(chan event.GenericEvent, 100),
		mappings: map[string]state{}, mappingChanges: make(chan event.GenericEvent, 100), certificates: map[string]certificateState{},
	}, registry: images(t)}
	issuer, err := certificate.Add(mgr, store, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		settingscontroller.Add(mgr, settingscontroller.Options{Store: store}),
		service.Add(mgr, service.Options{}),
		configuration.Add(mgr, configuration.Options{}),
		gc.Add(mgr, gc.Options{Settings: store, Now: p.clock.now}),
		hpa.Add(mgr, hpa.Options{Settings: store}),
		revision.Add(mgr, revision.Options{Settings: store, DrainAddress: "10.0.0.9:8013"}),
		route.Add(mgr, route.Options{Settings: store, Programmed: p.gateways, Issuer: issuer}),
		domainmapping.Add(mgr, domainmapping.Options{Settings: store, Programmed: p.gateways, Issuer: issuer}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	if p.watcher, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	p.Client = p.watcher
	p.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ebb-system"}})
	p.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settings.ConfigDomain, Namespace: "ebb-system"}, Data: map[string]string{"example.com": ""}})
	until(t, "the domain is read", func() error {
		if store.Load().IsClusterLocal(nil) {
			return fmt.Errorf("still the default")
		}
		return nil
	})
	return p
}

// ofRevisions keeps in the cache what the product keeps: of Deployments and pods only those of Revisions.
func ofRevisions() cache.Options {
	labelled, err := labels.Parse(serving.RevisionLabel)
	if err != nil {
		panic(err)
	}
	return cache.Options{ByObject: map[client.Object]cache.ByObject{&appsv1.Deployment{}: {Label: labelled}, &corev1.Pod{}: {Label: labelled}}}
}

// images serves an OCI registry with app:v1 and app:v2 until the test ends.
func images(t *testing.T) string {
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	for _, tag := range []string{"v1", "v2"} {
		image, err := random.Image(64, 1)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.NewTag(host + "/app:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image); err != nil {
			t.Fatal(err)
		}
	}
	return host
}

// gateways is a data plane that acknowledges everything at once, unless told otherwise.
type gateways struct {
	mu      sync.Mutex
	states  map[string]state
	changes chan event.GenericEvent

	mappings       map[string]state
	mappingChanges chan event.GenericEvent
	certificates   map[string]certificateState
	noTLS          bool
}

type state struct {
	connected, pending int
	rejected           []string
}

func (g *gateways) RouteState(namespace, name string) (int, int, []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s, ok := g.states[namespace+"/"+name]; ok {
		return s.connected, s.pending, s.rejected
	}
	return 1, 0, nil
}

func (g *gateways) Changes() <-chan event.GenericEvent { return g.changes }

func (g *gateways) set(namespace, name string, s state) {
	g.mu.Lock()
	g.states[namespace+"/"+name] = s
	g.mu.Unlock()
	g.changes <- event.GenericEvent{Object: &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}}
}

func (p *platform) namespace(t *testing.T) string {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}
	p.create(t, n)
	return n.Name
}

func (p *platform) create(t *testing.T, o client.Object) {
	t.Helper()
	if err := p.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// until polls what until it gives no error, and fails the test with the last one after a minute.
func until(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s: %v", what, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// eventually reads o until ok says "" of it.
func eventually[T client.Object](t *testing.T, p *platform, o T, namespace, name, what string, ok func(T) string) T {
	t.Helper()
	until(t, what, func() error {
		if err := p.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, o); err != nil {
			return err
		}
		if why := ok(o); why != "" {
			raw, _ := yaml.Marshal(o)
			return fmt.Errorf("%s; the object is\n%s", why, raw)
		}
		return nil
	})
	return o
}

// says checks one condition: its status and reason, and a part of its message.
func says(c v1.Conditions, kind string, status corev1.ConditionStatus, reason, message string) string {
	have := c.Get(kind)
	if have == nil || have.Status != status || have.Reason != reason || !strings.Contains(have.Message, message) {
		return fmt.Sprintf("condition %s should be %s %q %q", kind, status, reason, message)
	}
	return ""
}

// update changes an object, again when another was faster.
func update[T client.Object](t *testing.T, p *platform, o T, namespace, name string, change func(T)) {
	t.Helper()
	until(t, "updated "+name, func() error {
		if err := p.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, o); err != nil {
			return err
		}
		change(o)
		err := p.Update(context.Background(), o)
		if err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
		return err
	})
}

// pod makes a pod of a Revision's Deployment as a ReplicaSet would, with a status as a kubelet would.
func (p *platform) pod(t *testing.T, namespace, revision, name string, set func(*corev1.PodStatus)) {
	t.Helper()
	d := eventually(t, p, &appsv1.Deployment{}, namespace, revision+"-deployment", "the deployment is there", func(*appsv1.Deployment) string { return "" })
	pod := &corev1.Pod{ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy(), Spec: *d.Spec.Template.Spec.DeepCopy()}
	pod.Name, pod.Namespace = name, namespace
	p.create(t, pod)
	p.kubelet(t, namespace, name, set)
}

func (p *platform) kubelet(t *testing.T, namespace, name string, set func(*corev1.PodStatus)) {
	t.Helper()
	pod := &corev1.Pod{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, pod); err != nil {
		t.Fatal(err)
	}
	set(&pod.Status)
	if err := p.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func up(s *corev1.PodStatus) {
	s.Phase, s.PodIP = corev1.PodRunning, "10.1.1.1"
	s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	s.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
}

func waiting(reason, message string) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	}
}

func exited(code int32, message string) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", RestartCount: 1,
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 10s restarting failed container"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: message}}}}
	}
}

func (p *platform) service(namespace, name, image string) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s.Spec.Template.Spec.Containers = []corev1.Container{{Name: "app", Image: p.registry + "/" + image}}
	s.Spec.Template.Spec.TimeoutSeconds = new(int64(300))
	return s
}
