package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	source "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/proxy/translate"
)

// world holds the objects that the publisher reads, as lists that informers watch.
type world struct {
	cache   cache.Cache
	routes  *source.FakeControllerSource
	gateway string // where gateways listen
	servers []*http.Server
	group   sync.WaitGroup
}

const planeNamespace = "plane"

// newWorld makes so many Routes with a Revision each. The first two Revisions have a pod, which is a server in
// this process; the first Route sends all to the first Revision.
func newWorld(routes int) (*world, error) {
	w := &world{routes: source.NewFakeControllerSource()}
	revisions, pods := source.NewFakeControllerSource(), source.NewFakeControllerSource()
	for i := range routes {
		w.routes.Add(w.route(i, i))
		revisions.Add(w.revisionOf(i))
	}
	for i := range 2 {
		port, err := w.pod(w.revision(i))
		if err != nil {
			return w, err
		}
		m := w.meta(i, "Revision")
		m.Labels = map[string]string{serving.RevisionLabel: w.revision(i)}
		m.Annotations = map[string]string{serving.PortAnnotation: strconv.Itoa(port)}
		pods.Add(&corev1.Pod{ObjectMeta: m, Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		}})
	}
	sources := map[reflect.Type]*source.FakeControllerSource{
		reflect.TypeFor[*v1.Route](): w.routes, reflect.TypeFor[*v1.Revision](): revisions, reflect.TypeFor[*corev1.Pod](): pods,
	}
	scheme := runtime.NewScheme()
	mapper := meta.NewDefaultRESTMapper(nil)
	for gv, add := range map[schema.GroupVersion]func(*runtime.Scheme) error{
		corev1.SchemeGroupVersion: corev1.AddToScheme, v1.GroupVersion: v1.AddToScheme, v1beta1.GroupVersion: v1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return w, err
		}
		for kind := range scheme.KnownTypes(gv) {
			mapper.Add(gv.WithKind(kind), meta.RESTScopeNamespace)
		}
	}
	var err error
	w.cache, err = cache.New(&rest.Config{}, cache.Options{
		Scheme: scheme, Mapper: mapper, HTTPClient: http.DefaultClient, // nothing is asked of it
		NewInformer: func(_ toolscache.ListerWatcher, object runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
			from := sources[reflect.TypeOf(object)]
			if from == nil {
				from = source.NewFakeControllerSource()
			}
			return toolscache.NewSharedIndexInformer(from, object, resync, indexers)
		},
	})
	return w, err
}

// pod serves as a Revision's pod does, and returns its port.
func (w *world) pod(revision string) (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("K-Revision", revision)
		fmt.Fprintln(rw, revision)
	})}
	w.servers = append(w.servers, server)
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// stop what the world started, once the context of serve has ended.
func (w *world) stop() {
	for _, s := range w.servers {
		_ = s.Close()
	}
	w.routes.Broadcaster.Shutdown()
	w.group.Wait()
}

func (w *world) revision(i int) string { return fmt.Sprintf("hello-%05d", i) }

func (w *world) host(i int) string { return w.revision(i) + "." + planeNamespace + ".example.com" }

func (w *world) routeName(i int) string {
	return translate.RouteName(planeNamespace, w.revision(i), string(w.meta(i, "").UID))
}

// meta of an object as the controllers write it, with nobody else's strings.
func (w *world) meta(i int, owner string) metav1.ObjectMeta {
	name, yes := w.revision(i), true
	return metav1.ObjectMeta{
		Namespace: planeNamespace, Name: name, UID: types.UID(fmt.Sprint("uid-", i)), Generation: 1,
		CreationTimestamp: metav1.NewTime(time.Unix(int64(i), 0)),
		Labels: map[string]string{
			serving.ServiceLabel: name, serving.ServiceUIDLabel: fmt.Sprintf("5fa5b1a0-%08d-service", i), serving.ConfigurationLabel: name,
			serving.ConfigurationUIDLabel: fmt.Sprintf("5fa5b1a0-%08d-configuration", i), serving.RoutingStateLabel: serving.RoutingStateActive,
		},
		Annotations:     map[string]string{serving.EbbGroupName + "/applied": fmt.Sprintf("%016x", i), serving.CreatorAnnotation: "admin", serving.LastModifierAnnotation: "admin"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "serving.knative.dev/v1", Kind: owner, Name: name, UID: types.UID(fmt.Sprintf("5fa5b1a0-%08d-owner", i)), Controller: &yes, BlockOwnerDeletion: &yes}},
	}
}

func conditions(kinds ...string) (all v1.Conditions) {
	for _, kind := range kinds {
		all.SetTrue(kind, time.Unix(0, 0))
	}
	return all
}

func (w *world) revisionOf(i int) *v1.Revision {
	r := &v1.Revision{ObjectMeta: w.meta(i, "Configuration")}
	limit, timeout := int64(0), int64(300)
	r.Spec.ContainerConcurrency, r.Spec.TimeoutSeconds = &limit, &timeout
	r.Spec.Containers = []corev1.Container{{
		Name: "user-container", Image: fmt.Sprintf("registry.example.com/team/app-%d@sha256:%064x", i, i),
		ReadinessProbe: &corev1.Probe{SuccessThreshold: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}},
	}}
	r.Status.ObservedGeneration = 1
	r.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "user-container", ImageDigest: r.Spec.Containers[0].Image}}
	r.Status.Conditions = conditions(v1.ConditionReady, v1.RevisionResourcesAvailable, v1.RevisionContainerHealthy)
	return decoded(r)
}

// route i with all traffic to one Revision.
func (w *world) route(i, to int) *v1.Route {
	all, latest := int64(100), false
	r := &v1.Route{ObjectMeta: w.meta(i, "Service")}
	r.Spec.Traffic = []v1.TrafficTarget{{RevisionName: w.revision(to), Percent: &all, LatestRevision: &latest}}
	r.Status.ObservedGeneration = 1
	r.Status.URL = "http://" + w.host(i)
	r.Status.Traffic = r.Spec.Traffic
	r.Status.Conditions = conditions(v1.ConditionReady, v1.RouteAllTrafficAssigned, v1.RouteIngressReady)
	return decoded(r)
}

// decoded is the object as it comes from an API server: what it holds is its own.
func decoded[T any](o *T) *T {
	text, err := json.Marshal(o)
	out := new(T)
	if err = errors.Join(err, json.Unmarshal(text, out)); err != nil {
		panic(err) // types of ours, with constants in them
	}
	return out
}
