package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/cmd/ebb/datadir"
)

// Variables that say where Ebb is installed already. The first one chooses that over the embedded
// default; the gateway's listeners are found by their Services where nothing is said about them.
const (
	ClusterVariable  = "EBB_E2E_KUBECONFIG" // file of an administrator
	gatewayVariable  = "EBB_E2E_GATEWAY"    // host:port of the external listener
	secureVariable   = "EBB_E2E_GATEWAY_HTTPS"
	internalVariable = "EBB_E2E_INTERNAL"       // host:port of the in-cluster listener
	registryVariable = "EBB_E2E_REGISTRY"       // host:port/path that is pushed to, and that the cluster pulls from
	hostsVariable    = "EBB_E2E_REGISTRY_HOSTS" // folder of containerd's hosts.toml files, for registries of tests
)

// existing is a cluster on which Ebb is installed. Its pods, and the addresses of its Services unless the
// variables say others, must be reached from here.
type existing struct {
	set  kubernetes.Interface
	back []func(context.Context) error // takes changed settings back

	mu      sync.Mutex
	running datadir.Running
	asked   time.Time // when running was read
}

// testSettings are those that `ebb up` has too: hosts under localhost, whatever tests claim.
var testSettings = map[string]map[string]string{
	"config-domain":     {"localhost": ""},
	"config-network":    {"autocreate-cluster-domain-claims": "true"},
	"config-autoscaler": {"allow-zero-initial-scale": "true"},
}

// Existing connects to the cluster that the variables name. The caller calls Close.
func Existing(ctx context.Context) (*Platform, error) {
	kubeconfig, err := filepath.Abs(os.Getenv(ClusterVariable))
	if err != nil {
		return nil, err
	}
	p := &Platform{Ebb: program(), cluster: &existing{}}
	p.cluster.running = datadir.Running{
		Kubeconfig: kubeconfig, Gateway: os.Getenv(gatewayVariable), GatewayHTTPS: os.Getenv(secureVariable), Internal: os.Getenv(internalVariable),
		Registry: os.Getenv(registryVariable),
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	if err := p.connect(config); err != nil {
		return nil, err
	}
	if p.cluster.set, err = kubernetes.NewForConfig(p.Config); err != nil {
		return nil, err
	}
	if p.cluster.running.Registry == "" {
		return nil, fmt.Errorf("$%s is not set: the registry for the images of tests", registryVariable)
	}
	for service, ports := range map[string]map[string]*string{
		"ebb-gateway":          {"http": &p.cluster.running.Gateway, "https": &p.cluster.running.GatewayHTTPS},
		"ebb-gateway-internal": {"http": &p.cluster.running.Internal},
	} {
		s := &corev1.Service{}
		if err := p.Get(ctx, client.ObjectKey{Namespace: serving.Namespace, Name: service}, s); err != nil {
			return nil, fmt.Errorf("is Ebb installed there? %w", err)
		}
		for name, address := range ports {
			i := slices.IndexFunc(s.Spec.Ports, func(port corev1.ServicePort) bool { return port.Name == name })
			if i >= 0 && *address == "" {
				*address = net.JoinHostPort(s.Spec.ClusterIP, fmt.Sprint(s.Spec.Ports[i].Port))
			}
		}
	}
	for name, data := range testSettings {
		if err := p.set(ctx, name, data); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// set writes keys of a ConfigMap of settings until the tests end.
func (p *Platform) set(ctx context.Context, name string, data map[string]string) error {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: name}}
	if err := client.IgnoreAlreadyExists(p.Create(ctx, m.DeepCopy())); err != nil {
		return err
	}
	if err := p.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil {
		return err
	}
	was := map[string]*string{}
	for key := range data {
		was[key] = nil
		if value, ok := m.Data[key]; ok {
			was[key] = &value
		}
	}
	patch := func(ctx context.Context, data any) error {
		text, err := json.Marshal(map[string]any{"data": data})
		if err != nil {
			return err
		}
		return p.Patch(ctx, m.DeepCopy(), client.RawPatch("application/merge-patch+json", text))
	}
	p.cluster.back = append(p.cluster.back, func(ctx context.Context) error { return patch(ctx, was) })
	return patch(ctx, data)
}

// Embedded skips a test that needs the embedded default when the platform is a cluster.
func (p *Platform) Embedded(t testing.TB, why string) {
	t.Helper()
	if p.cluster != nil {
		t.Skip("for the embedded default only: " + why)
	}
}

// Cluster skips a test that needs a real kubelet when the platform is the embedded default.
func (p *Platform) Cluster(t testing.TB) {
	t.Helper()
	if p.cluster == nil {
		t.Skipf("needs a real kubelet: `make test-cluster` runs it ($%s is not set)", ClusterVariable)
	}
}

// OnCluster says whether the platform is a cluster.
func (p *Platform) OnCluster() bool { return p.cluster != nil }

// Clientset is for what needs more than a client: logs, evictions.
func (p *Platform) Clientset(t testing.TB) kubernetes.Interface {
	t.Helper()
	set, err := kubernetes.NewForConfig(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// freshness is how old what is known of the parts' pods may be.
const freshness = time.Second

// where reads who the leader and the gateways are.
func (e *existing) where(ctx context.Context) datadir.Running {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.asked) < freshness {
		return e.running
	}
	pods, err := e.set.CoreV1().Pods(serving.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return e.running
	}
	var lease *coordinationv1.Lease
	if lease, err = e.set.CoordinationV1().Leases(serving.Namespace).Get(ctx, "ebb-controller", metav1.GetOptions{}); err != nil || lease.Spec.HolderIdentity == nil {
		return e.running
	}
	leader, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	e.running.GatewayMetrics = ""
	for _, pod := range pods.Items {
		metrics := net.JoinHostPort(pod.Status.PodIP, "9090")
		switch {
		case pod.Name == leader:
			e.running.Controller = metrics
		case strings.HasPrefix(pod.Name, "ebb-gateway-") && PodReady(&pod) && e.running.GatewayMetrics == "":
			e.running.GatewayMetrics = metrics
		}
	}
	e.asked = time.Now()
	return e.running
}

// log is the last lines of a part's pods that have a word in them or tell of trouble.
func (e *existing) log(part, word string, lines int) string {
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	pods, err := e.set.CoreV1().Pods(serving.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + part})
	if err != nil {
		return err.Error()
	}
	var all strings.Builder
	for _, pod := range pods.Items {
		stream, err := e.set.CoreV1().Pods(serving.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{SinceSeconds: new(int64(120)), TailLines: new(int64(5000))}).Stream(ctx)
		if err != nil {
			fmt.Fprintf(&all, "%s: %v\n", pod.Name, err)
			continue
		}
		text, err := io.ReadAll(stream)
		stream.Close()
		fmt.Fprintf(&all, "%s (%s, %d restarts; error %v):\n%s", pod.Name, pod.Status.Phase, restarts(&pod), err, told(string(text), word, lines))
	}
	return all.String()
}

func restarts(pod *corev1.Pod) int {
	n := 0
	for _, c := range pod.Status.ContainerStatuses {
		n += int(c.RestartCount)
	}
	return n
}

func (e *existing) close() {
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	for _, back := range e.back {
		if err := back(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "take a setting back:", err)
		}
	}
}

// GatewayPages are the addresses of the gateways' own pages: host:port of /metrics.
func (p *Platform) GatewayPages(t testing.TB) []string {
	t.Helper()
	if p.cluster == nil {
		return []string{p.Running().GatewayMetrics}
	}
	var pages []string
	for _, pod := range p.PartPods(t, "gateway") {
		if PodReady(&pod) {
			pages = append(pages, net.JoinHostPort(pod.Status.PodIP, "9090"))
		}
	}
	return pages
}

// PartPods are the pods of a part of Ebb on a cluster: controller, activator, gateway.
func (p *Platform) PartPods(t testing.TB, part string) []corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	if err := p.List(context.WithoutCancel(t.Context()), pods, client.InNamespace(serving.Namespace), client.MatchingLabels{"app.kubernetes.io/component": part}); err != nil {
		t.Fatal(err)
	}
	return pods.Items
}

// GatewayLog is what all gateways have written.
func (p *Platform) GatewayLog(t testing.TB) string {
	t.Helper()
	if p.cluster == nil {
		text, err := os.ReadFile(p.dir.Log("gateway"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return p.cluster.log("gateway", "", math.MaxInt)
}

// NodeName is that of the one node.
func (p *Platform) NodeName(t testing.TB) string {
	t.Helper()
	var nodes corev1.NodeList
	if err := p.List(t.Context(), &nodes); err != nil || len(nodes.Items) == 0 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	return nodes.Items[0].Name
}

// PlainRegistry has the node speak plain HTTP with a registry until the test ends. The node of the
// embedded default does with one on the loopback; containerd is told in its folder of hosts.
func (p *Platform) PlainRegistry(t testing.TB, host string) {
	t.Helper()
	if p.cluster == nil {
		return
	}
	hosts := os.Getenv(hostsVariable)
	if hosts == "" {
		t.Skipf("$%s is not set: the folder in which containerd looks for how to reach registries", hostsVariable)
	}
	folder := filepath.Join(hosts, host)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.WriteFile(filepath.Join(folder, "hosts.toml"), fmt.Appendf(nil, "[host.%q]\n", "http://"+host), 0o644); err != nil {
		t.Fatal(err)
	}
}
