package eventfaults

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/test/kubetest"
)

// world is the parts.
type world struct {
	kube       client.Client
	nats       *part
	eventing   [2]*part
	metrics    [2]string
	urls       []string
	subscriber *part
	disk       string // a small one of the store's own, when this is root
	killed     *tally // what came to the subscriber that is killed
	inorder    *tally // to the ordered Trigger
	dead       *tally
}

const (
	namespace = "default"
	system    = "ebb-system"
	diskBytes = 256 << 20
)

func newWorld(t *testing.T, storeBytes int) *world {
	t.Helper()
	ebb := program(t)
	config := kubetest.Start(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, eventingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{killed: newTally(false), inorder: newTally(true), dead: newTally(false)}
	var err error
	if w.kube, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "config-ebb-eventing"}, Data: map[string]string{
			"max-bytes": fmt.Sprint(storeBytes), "dead-letter-max-bytes": "8Mi", "ack-wait": "5s", "delivery-timeout": "30s", "delivery-retry": "100",
			"delivery-backoff-policy": "linear", "delivery-backoff-delay": "50ms",
		}},
	} {
		if err := w.kube.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}

	folder := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		switch err := syscall.Mount("eventfaults", folder, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err {
		case nil:
			w.disk = folder
			t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
		default:
			t.Logf("no disk of the store's own: mount: %v", err)
		}
	}
	address := free(t)
	w.nats = startPart(t, "nats", nil, ebb, "nats", "--listen", address, "--data", filepath.Join(folder, "data"), "--metrics-listen", "", "--max-store", "128Mi")
	kubeconfig := kubetest.Kubeconfig(t, config)
	for i := range w.eventing {
		listen := free(t)
		w.metrics[i] = free(t)
		w.urls = append(w.urls, "http://"+listen+"/"+namespace+"/main")
		w.eventing[i] = startPart(t, fmt.Sprintf("eventing-%d", i), nil, ebb, "eventing", "--kubeconfig", kubeconfig, "--namespace", system,
			"--listen", listen, "--nats", "nats://"+address, "--metrics-listen", w.metrics[i], "--inspect-listen", "")
	}

	file, listen := filepath.Join(t.TempDir(), "taken"), free(t)
	w.subscriber = startPart(t, "subscriber", []string{asSubscriber + "=" + listen, asFile + "=" + file}, os.Args[0])
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	followed := make(chan error, 1)
	go func() { followed <- follow(ctx, file, w.killed) }()
	t.Cleanup(func() {
		stop()
		if err := <-followed; err != nil {
			t.Error(err)
		}
	})
	inorder := httptest.NewServer(receiver(w.inorder.took))
	t.Cleanup(inorder.Close)
	dead := httptest.NewServer(receiver(w.dead.took))
	t.Cleanup(dead.Close)
	w.apply(t, &eventingv1.Broker{}, `{metadata: {name: main}, spec: {delivery: {deadLetterSink: {uri: "`+dead.URL+`"}}}}`)
	w.apply(t, &eventingv1.Trigger{}, `{metadata: {name: killed}, spec: {broker: main, subscriber: {uri: "http://`+listen+`/"}}}`)
	w.apply(t, &eventingv1.Trigger{}, `{metadata: {name: inorder, annotations: {ebb.dev/delivery-order: ordered}}, spec: {broker: main, subscriber: {uri: "`+inorder.URL+`/"}}}`)
	for _, name := range []string{"killed", "inorder"} {
		w.awaitTrigger(t, name)
	}
	for i := range w.eventing {
		w.awaitReady(t, i)
	}
	return w
}

func (w *world) apply(t *testing.T, o client.Object, text string) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	o.SetNamespace(namespace)
	await(t, "create "+o.GetName(), func() error { return w.kube.Create(t.Context(), o) })
}

func (w *world) awaitTrigger(t *testing.T, name string) {
	t.Helper()
	await(t, "Trigger "+name+" is Ready", func() error {
		var trigger eventingv1.Trigger
		if err := w.kube.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &trigger); err != nil {
			return err
		}
		for _, c := range trigger.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				return nil
			}
		}
		return fmt.Errorf("its status is %+v", trigger.Status)
	})
}

func (w *world) awaitReady(t *testing.T, i int) {
	t.Helper()
	await(t, w.eventing[i].name+" is ready", func() error {
		_, err := get("http://" + w.metrics[i] + "/readyz")
		return err
	})
}

// leader is the one of the eventing parts that holds the lease.
func (w *world) leader(t *testing.T) int {
	t.Helper()
	found := 0
	await(t, "one leads", func() error {
		for i := range w.eventing {
			text, err := get("http://" + w.metrics[i] + "/metrics")
			if err == nil && strings.Contains(text, `leader_election_master_status{name="ebb-eventing"} 1`) {
				found = i
				return nil
			}
		}
		return fmt.Errorf("none says so")
	})
	return found
}
