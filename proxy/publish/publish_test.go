package publish_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"net/netip"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/publish"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/kubetest"
)

func rejection(message string) *rpcstatus.Status {
	return &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: message}
}

// world is a publisher on a real kube-apiserver; the test plays controllers and kubelet.
type world struct {
	t *testing.T
	client.Client
	publisher *publish.Publisher
	settings  *settings.Store
	namespace string
	live      *held

	mu      sync.Mutex
	tracked map[string]bool
}

// newWorld makes a publisher that sees a namespace of its own.
func newWorld(t *testing.T, config *rest.Config, idle time.Duration, change ...func(*publish.Options)) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v1.AddToScheme(scheme), v1beta1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "publish-"}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	objects, err := cache.New(config, cache.Options{Scheme: scheme, DefaultNamespaces: map[string]cache.Config{namespace.Name: {}}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, Client: c, settings: settings.NewStore(), namespace: namespace.Name, live: &held{Reader: c}, tracked: map[string]bool{}}
	options := publish.Options{
		Cache:     objects,
		Live:      w.live,
		Settings:  w.settings,
		Listeners: translate.Listeners(netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("127.0.0.1:8443"), netip.MustParseAddrPort("127.0.0.1:8081")),
		Track: func(cluster string, on bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.tracked[cluster] = on
		},
		IdleAfter: idle,
		Grace:     50 * time.Millisecond,
	}
	for _, f := range change {
		f(&options)
	}
	if w.publisher, err = publish.New(options); err != nil {
		t.Fatal(err)
	}
	if registry, ok := options.Activators.(*members.Registry); ok {
		registry.Follow(w.publisher)
	} else {
		w.publisher.Members([]members.Member{{Name: "activator-0", ID: "activator-0@1", Address: netip.MustParseAddrPort("10.9.9.9:8012")}})
	}
	if err := w.publisher.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() {
		if err := objects.Start(ctx); err != nil {
			t.Errorf("cache: %v", err)
		}
	})
	for _, run := range []func(context.Context) error{w.publisher.Warm, w.publisher.Start} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("publisher: %v", err)
			}
		})
	}
	// The route controller's place: somebody has to read the changes.
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.publisher.Changes():
			case <-w.publisher.MappingChanges():
			}
		}
	})
	return w
}

// held reads from the API server, but for a Secret that a test holds back.
type held struct {
	client.Reader

	mu    sync.Mutex
	back  string
	asked chan struct{} // closed when it is asked for
	let   chan struct{} // closed when it may be read
}

// hold keeps a Secret from being read until let is called; asked is closed when somebody wants to.
func (h *held) hold(secret string) (asked <-chan struct{}, let func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.back, h.asked, h.let = secret, make(chan struct{}), make(chan struct{})
	return h.asked, sync.OnceFunc(func() { close(h.let) })
}

func (h *held) Get(ctx context.Context, name client.ObjectKey, into client.Object, options ...client.GetOption) error {
	h.mu.Lock()
	let := h.let
	if h.back == name.Name && let != nil {
		h.back = ""
		close(h.asked)
	} else {
		let = nil
	}
	h.mu.Unlock()
	if let != nil {
		<-let
	}
	return h.Reader.Get(ctx, name, into, options...)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) revision(name string) *v1.Revision {
	w.t.Helper()
	r := &v1.Revision{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	r.Spec.Containers = []corev1.Container{{Name: "user-container", Image: "example.com/app"}}
	w.must(w.Create(w.t.Context(), r))
	return r
}

func (w *world) route(name string, traffic ...v1.TrafficTarget) *v1.Route {
	w.t.Helper()
	r := &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	w.must(w.Create(w.t.Context(), r))
	w.traffic(r, traffic...)
	return r
}

func (w *world) traffic(r *v1.Route, traffic ...v1.TrafficTarget) {
	w.t.Helper()
	r.Status.URL = "http://" + r.Name + "." + w.namespace + ".example.com:8080"
	r.Status.Traffic = traffic
	w.must(w.Status().Update(w.t.Context(), r))
}

func (w *world) pod(revision *v1.Revision, name, ip string, ready bool) *corev1.Pod {
	w.t.Helper()
	return w.podOf(revision, name, ip, ready, nil)
}

func (w *world) podOf(revision *v1.Revision, name, ip string, ready bool, annotations map[string]string) *corev1.Pod {
	w.t.Helper()
	grace := int64(30)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{serving.RevisionLabel: revision.Name}, Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: "node", TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	w.must(w.Create(w.t.Context(), p))
	condition := corev1.ConditionFalse
	if ready {
		condition = corev1.ConditionTrue
	}
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip,
		PodIPs:     []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: condition}},
	}
	w.must(w.Status().Update(w.t.Context(), p))
	return p
}

func target(revision string, percent int64) v1.TrafficTarget {
	return v1.TrafficTarget{RevisionName: revision, Percent: &percent}
}

func cluster(r *v1.Revision) string { return ir.RevisionCluster(r.Namespace, r.Name, string(r.UID)) }

// ready waits until every gateway has acknowledged the Route.
func (w *world) ready(g *gateway, name string) {
	w.t.Helper()
	g.wait("route "+name+" is acknowledged", func() bool {
		connected, pending, rejected := w.publisher.RouteState(w.namespace, name)
		return connected == 1 && pending == 0 && len(rejected) == 0
	})
}

// TestOnKubernetes starts one API server for all.
func TestOnKubernetes(t *testing.T) {
	config := kubetest.Start(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *rest.Config)
	}{
		{"Publish", testPublish},
		{"ReadyMeansAcknowledged", testReadyMeansAcknowledged},
		{"RejectionIsShown", testRejectionIsShown},
		{"IdleConfigurationIsTakenBack", testIdleConfigurationIsTakenBack},
		{"OneHostIsForTheOlderRoute", testOneHostIsForTheOlderRoute},
		{"Backends", testBackends},
		{"DomainMapping", testDomainMapping},
		{"Certificates", testCertificates},
		{"Limits", testLimits},
		{"LimitsAreExact", testLimitsAreExact},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, config) })
	}
}

func testPublish(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 0)
	one, two := w.revision("hello-00001"), w.revision("hello-00002")
	route := w.route("hello", target(one.Name, 100))
	g := connect(t, w.publisher.Server())

	// The scopes are everybody's; what is behind them is sent when it is asked for.
	g.wait("scopes", func() bool { return len(g.names(xds.ScopeType)) == 4 })
	if got := g.names(xds.ListenerType); !slices.Equal(got, []string{"external", "external-https", "internal"}) {
		t.Errorf("listeners: %v", got)
	}
	if got := g.names(xds.ClusterType); len(got) != 0 {
		t.Errorf("clusters before anybody asked: %v", got)
	}
	w.ready(g, "hello")
	name := translate.RouteName(w.namespace, "hello", string(route.UID))
	g.subscribe(xds.RouteType, name)
	g.wait("the route configuration", func() bool { return slices.Equal(g.names(xds.RouteType), []string{name}) })
	if got := g.names(xds.ClusterType); !slices.Equal(got, []string{cluster(one)}) {
		t.Errorf("clusters: %v", got)
	}
	if got := g.endpoints(cluster(one)); len(got[0]) != 0 || len(got[1]) != 1 || got[1][0] != "hold/activator-0 UNKNOWN" {
		t.Errorf("endpoints at zero: %v", got)
	}
	if listeners, clusters := g.all(xds.ListenerType), g.all(xds.ClusterType); !slices.Contains(listeners, "hold/activator-0") || !slices.Contains(clusters, "activator/activator-0") {
		t.Errorf("the way to the activator is not among listeners %v and clusters %v", listeners, clusters)
	}

	// A pod comes: one push of endpoints, and its load is asked for.
	pod := w.pod(one, "hello-00001-a", "10.0.0.1", true)
	g.wait("the pod at priority 0", func() bool { return len(g.endpoints(cluster(one))[0]) == 1 })
	g.wait("its load is asked for", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.tracked[cluster(one)]
	})

	// It drains, and is taken back.
	w.publisher.Drain(w.namespace, one.Name, []string{pod.Name})
	w.must(w.publisher.AwaitDrained(t.Context(), w.namespace, one.Name))
	if got := g.endpoints(cluster(one)); !strings.HasSuffix(got[0][0], "DRAINING") {
		t.Errorf("endpoints after Drain: %v", got)
	}
	w.publisher.Drain(w.namespace, one.Name, nil)
	w.must(w.publisher.AwaitDrained(t.Context(), w.namespace, one.Name))
	if got := g.endpoints(cluster(one)); strings.HasSuffix(got[0][0], "DRAINING") {
		t.Errorf("endpoints after it was taken back: %v", got)
	}
	// Kubernetes ends it: it drains without being told.
	w.must(w.Delete(t.Context(), pod))
	g.wait("the ending pod drains", func() bool {
		got := g.endpoints(cluster(one))[0]
		return len(got) == 1 && strings.HasSuffix(got[0], "DRAINING")
	})

	// A split: the second cluster comes, and the first one goes when nobody needs it.
	w.traffic(route, target(one.Name, 50), target(two.Name, 50))
	g.wait("both clusters", func() bool { return len(g.names(xds.ClusterType)) == 2 })
	w.ready(g, "hello")
	w.traffic(route, target(two.Name, 100))
	g.wait("the second cluster alone", func() bool { return slices.Equal(g.names(xds.ClusterType), []string{cluster(two)}) })

	// Traffic to a revision that is not there changes nothing.
	w.traffic(route, target("hello-00003", 100))
	g.wait("the route is pending", func() bool {
		_, pending, _ := w.publisher.RouteState(w.namespace, "hello")
		return pending > 0
	})
	if got := g.names(xds.ClusterType); !slices.Equal(got, []string{cluster(two)}) {
		t.Errorf("clusters after a bad change: %v", got)
	}
	three := w.revision("hello-00003")
	g.wait("the third cluster", func() bool { return slices.Equal(g.names(xds.ClusterType), []string{cluster(three)}) })
	w.ready(g, "hello")

	w.must(w.Delete(t.Context(), route))
	g.wait("no scope", func() bool { return len(g.names(xds.ScopeType)) == 0 })
}

func testReadyMeansAcknowledged(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 0)
	one := w.revision("hello-00001")
	w.route("hello", target(one.Name, 100))
	if _, pending, _ := w.publisher.RouteState(w.namespace, "hello"); pending == 0 {
		if connected, _, _ := w.publisher.RouteState(w.namespace, "hello"); connected != 0 {
			t.Error("a route is acknowledged with no gateway")
		}
	}
	g := connect(t, w.publisher.Server(), func(g *gateway) {
		g.hold = func(typeURL string) bool { return typeURL == xds.ScopeType }
	})
	g.wait("the scopes arrive", func() bool { return len(g.names(xds.ScopeType)) == 4 })
	if _, pending, _ := w.publisher.RouteState(w.namespace, "hello"); pending == 0 {
		t.Error("nothing is pending though the gateway has not answered")
	}
	g.release()
	w.ready(g, "hello")
}

func testRejectionIsShown(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 0)
	one := w.revision("hello-00001")
	w.route("hello", target(one.Name, 100))
	g := connect(t, w.publisher.Server(), func(g *gateway) {
		g.refuse = func(typeURL string) string {
			if typeURL == xds.ScopeType {
				return "scope hello: it has no taste"
			}
			return ""
		}
	})
	g.wait("the rejection", func() bool {
		_, _, rejected := w.publisher.RouteState(w.namespace, "hello")
		return len(rejected) > 0 && strings.Contains(rejected[0], "it has no taste")
	})
}

func testIdleConfigurationIsTakenBack(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 400*time.Millisecond)
	one := w.revision("hello-00001")
	route := w.route("hello", target(one.Name, 100))
	g := connect(t, w.publisher.Server())
	g.wait("scopes", func() bool { return len(g.names(xds.ScopeType)) == 4 })
	before := g.names(xds.ScopeType)
	g.subscribe(xds.RouteType, translate.RouteName(w.namespace, "hello", string(route.UID)))
	g.wait("the configuration", func() bool { return len(g.names(xds.RouteType)) == 1 })
	w.publisher.Used(cluster(one))
	g.wait("new scopes in place of the old ones", func() bool {
		now := g.names(xds.ScopeType)
		return len(now) == 4 && !slices.Equal(now, before)
	})
}

// The older of two Routes with one host has it, also when it comes to it later, and the
// younger one gets it when the older one lets go.
func testOneHostIsForTheOlderRoute(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 0)
	one, two := w.revision("one"), w.revision("two")
	older := w.route("first", target(one.Name, 100))
	younger := w.route("second", target(two.Name, 100))
	// The API server's times are whole seconds; of two Routes of one second the UID decides.
	if older.CreationTimestamp.Equal(&younger.CreationTimestamp) && older.UID > younger.UID {
		older, younger, one, two = younger, older, two, one
	}
	g := connect(t, w.publisher.Server())
	w.ready(g, older.Name)
	w.ready(g, younger.Name)
	share := func(r *v1.Route, revision string) {
		w.must(w.Get(t.Context(), client.ObjectKeyFromObject(r), r))
		r.Status.URL = "http://shared.example.com"
		r.Status.Traffic = []v1.TrafficTarget{target(revision, 100)}
		w.must(w.Status().Update(t.Context(), r))
	}
	has := func(route *v1.Route) bool {
		return slices.ContainsFunc(g.names(xds.ScopeType), func(scope string) bool {
			return strings.Contains(scope, string(route.UID)) && strings.Contains(scope, "/shared.example.com")
		})
	}
	share(younger, two.Name)
	g.wait("the younger one has a host that nobody else wants", func() bool { return has(younger) })
	share(older, one.Name)
	g.wait("the older one has it", func() bool { return has(older) && !has(younger) })
	w.ready(g, older.Name)
	g.wait("the younger one says so", func() bool {
		_, _, rejected := w.publisher.RouteState(w.namespace, younger.Name)
		return len(rejected) == 1 && strings.Contains(rejected[0], "host shared.example.com is served by route "+w.namespace+"/"+older.Name+", which is older")
	})
	w.must(w.Delete(t.Context(), older))
	g.wait("the younger one has it again", func() bool { return has(younger) })
	w.ready(g, younger.Name)
}
