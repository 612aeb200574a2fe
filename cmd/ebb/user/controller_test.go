package user

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
	"ebb.dev/ebb/test/kubetest"
)

// TestExplainOnACluster: the controller that leads is asked by way of a real kube-apiserver, and
// where it cannot be asked the rest is said all the same.
func TestExplainOnACluster(t *testing.T) {
	config := kubetest.Start(t)
	asked := make(chan string, 100)
	port := onThisMachine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		switch r.URL.Path {
		case "/explain":
			_, _ = w.Write([]byte(`{"reasons":["3 requests are waiting"],"settings":[{"name":"min-scale","value":"2","from":"Service shop"}],
				"lastStart":{"at":"2030-01-02T03:04:05Z","complete":true,"parts":[{"step":"forwarded","sinceMilliseconds":171,"tookMilliseconds":171}]}}`))
		case "/status":
			_, _ = w.Write([]byte(`{"version":"v7","reporters":[{"Node":"gateway-0","Kind":0}]}`))
		default:
			http.NotFound(w, r)
		}
	}))
	ctx := t.Context()
	var out bytes.Buffer
	s := session(t, config, &out)
	for _, ns := range []string{serving.Namespace} {
		if _, err := s.Pods.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	shop := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"}}
	shop.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	revision := &v1.Revision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop-00001", Labels: map[string]string{serving.ServiceLabel: "shop"}}}
	revision.Spec.Containers = shop.Spec.Template.Spec.Containers
	for _, err := range []error{s.Create(ctx, shop), s.Create(ctx, revision)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	explain := func(wanted ...string) {
		t.Helper()
		out.Reset()
		if err := s.Explain(ctx, "shop"); err != nil {
			t.Fatal(err)
		}
		for _, text := range wanted {
			if !strings.Contains(out.String(), text) {
				t.Errorf("explain says\n%s\nwithout %q", out.String(), text)
			}
		}
	}
	const unasked = "the controller was not asked why the revisions have these pods: "
	explain("cause: service shop: NotObserved", "shop-00001, pods 0/0", unasked+"no controller leads: lease ebb-system/ebb-controller does not exist")

	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: controllerLease}}
	lease, err := s.Pods.CoordinationV1().Leases(serving.Namespace).Create(ctx, lease, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	explain(unasked + "no controller leads now")
	lease.Spec.HolderIdentity = ptr("ebb-controller-7d9f-x_0b8e3c46-1111")
	if _, err := s.Pods.CoordinationV1().Leases(serving.Namespace).Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	explain(unasked + "the controller that leads, ebb-controller-7d9f-x, is no pod in namespace ebb-system")

	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: "ebb-controller-7d9f-x"}, Spec: corev1.PodSpec{
		AutomountServiceAccountToken: ptr(false),
		Containers:                   []corev1.Container{{Name: "controller", Image: "i", Ports: []corev1.ContainerPort{{Name: metricsPortName, ContainerPort: int32(port.port)}}}},
	}}
	made, err := s.Pods.CoreV1().Pods(serving.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status.Phase, made.Status.PodIP, made.Status.PodIPs = corev1.PodRunning, port.ip, []corev1.PodIP{{IP: port.ip}}
	made.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if _, err := s.Pods.CoreV1().Pods(serving.Namespace).UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	explain("3 requests are waiting", "min-scale", "Service shop", "last start from zero", "171.0 ms")
	if have := <-asked; have != "/explain?namespace=default&revision=shop-00001" {
		t.Errorf("the controller was asked %s", have)
	}
	if strings.Contains(out.String(), "was not asked") {
		t.Errorf("explain says\n%s", out.String())
	}

	st, err := s.platformStatus(ctx)
	if err != nil || len(st.Problems) > 0 || len(st.Parts) != 1 || st.Parts[0].Name != pod.Name || st.Parts[0].State != "ready" {
		t.Errorf("the status is %+v, %v", st, err)
	}
	var v Version
	s.serverVersions(ctx, &v)
	if v.Controller != "v7" || !strings.HasPrefix(v.Kubernetes, "v1.") {
		t.Errorf("the versions are %+v", v)
	}
	text, err := json.Marshal(st)
	if err != nil || !strings.Contains(string(text), "gateway-0") {
		t.Errorf("the status is %s, %v", text, err)
	}

	// Somebody who may read Services, and no more.
	s = session(t, &rest.Config{Host: config.Host, TLSClientConfig: config.TLSClientConfig, Impersonate: rest.ImpersonationConfig{UserName: "viewer", Groups: []string{"system:masters-not"}}}, &out)
	if _, err := s.ask(ctx, "/explain", nil); err == nil || !strings.Contains(err.Error(), "you are not allowed to") {
		t.Errorf("who may nothing is told %v", err)
	}
}

func session(t *testing.T, config *rest.Config, out *bytes.Buffer) *Session {
	t.Helper()
	s, err := NewSession(config, "default", out, out)
	if err != nil {
		t.Fatal(err)
	}
	s.Format = output.Table
	return s
}

// place is where a server of a test is.
type place struct {
	ip   string
	port int
}

// onThisMachine serves on an address of this machine that is not the loopback: the
// kube-apiserver passes nothing on to that.
func onThisMachine(t *testing.T, h http.Handler) place {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.To4() == nil || !n.IP.IsGlobalUnicast() {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(n.IP.String(), "0"))
		if err != nil {
			continue
		}
		server := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
		server.Start()
		t.Cleanup(server.Close)
		return place{n.IP.String(), l.Addr().(*net.TCPAddr).Port}
	}
	t.Skip("this machine has no address but the loopback, to which the kube-apiserver passes nothing on")
	return place{}
}
