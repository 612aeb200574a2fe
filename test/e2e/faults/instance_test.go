package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

var shared platform.Shared

func TestMain(m *testing.M) { shared.Main(m) }

const namespace = "default"

// world is the platform with the image of the test program in its registry.
type world struct {
	*platform.Platform
	image string
	http  *http.Client
}

var program struct {
	sync.Once
	image string
	err   error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	p := shared.Platform(t)
	w := &world{Platform: p}
	program.Do(func() {
		deploy := exec.CommandContext(t.Context(), p.Ebb, "deploy", "program", "./test/app", "--data", p.Data, "-a", autoscaling("window", "6s"))
		deploy.Dir = platform.Root()
		out, err := deploy.CombinedOutput()
		if err != nil {
			program.err = fmt.Errorf("deploy ./test/app: %w\n%s", err, out)
			return
		}
		var s v1.Service
		program.err = p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "program"}, &s)
		if program.err == nil {
			program.image = s.Spec.Template.Spec.Containers[0].Image
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	w.image = program.image
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, p.Running().Gateway)
	}}
	w.http = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return w
}

func autoscaling(name, value string) string { return "autoscaling.knative.dev/" + name + "=" + value }

// quick are the annotations of a service that scales within seconds.
func quick(more ...string) map[string]string {
	out := map[string]string{}
	for _, kv := range append([]string{autoscaling("window", "6s")}, more...) {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

// service creates a Service, waits until it is Ready, and deletes it after the test.
func (w *world) service(t *testing.T, name string, annotations map[string]string) {
	t.Helper()
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s.Spec.Template.Annotations = annotations
	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: w.image}}
	if err := w.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), platform.Deadline)
		defer cancel()
		if err := w.Delete(ctx, s); err != nil && !apierrors.IsNotFound(err) {
			t.Log(err)
		}
	})
	w.ready(t, name)
}

func (w *world) ready(t *testing.T, name string) *v1.Service {
	t.Helper()
	var s v1.Service
	until(t, "service "+name+" is Ready", func() error {
		if err := w.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &s); err != nil {
			return err
		}
		if c := s.Status.Conditions.Get(v1.ConditionReady); s.Status.ObservedGeneration != s.Generation || !c.IsTrue() {
			return fmt.Errorf("Ready: %v", c)
		}
		return nil
	})
	return &s
}

// pods of a service that are not being deleted, by name.
func (w *world) pods(ctx context.Context, service string) (map[string]corev1.Pod, error) {
	var list corev1.PodList
	if err := w.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{serving.ServiceLabel: service}); err != nil {
		return nil, err
	}
	out := map[string]corev1.Pod{}
	for _, p := range list.Items {
		if p.DeletionTimestamp.IsZero() && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
			out[p.Name] = p
		}
	}
	return out, nil
}

// awaitPods waits until a service has between least and most pods, all ready.
func (w *world) awaitPods(t *testing.T, service string, least, most int) map[string]corev1.Pod {
	t.Helper()
	var pods map[string]corev1.Pod
	until(t, fmt.Sprintf("%s has %d to %d ready pods", service, least, most), func() (err error) {
		if pods, err = w.pods(t.Context(), service); err != nil {
			return err
		}
		for _, p := range pods {
			if !ready(p) {
				return fmt.Errorf("pod %s is not ready", p.Name)
			}
		}
		if len(pods) < least || len(pods) > most {
			return fmt.Errorf("it has %d", len(pods))
		}
		return nil
	})
	return pods
}

func ready(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// counters asks a pod itself, past the gateway.
func counters(t *testing.T, pod corev1.Pod) (c struct{ Now, Most, Total int64 }) {
	t.Helper()
	resp, err := http.Get("http://" + net.JoinHostPort(pod.Status.PodIP, pod.Annotations[serving.PortAnnotation]) + "/counters")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// kill ends a part with SIGKILL and returns when `ebb up` has started it again.
func (w *world) kill(t *testing.T, part string) {
	t.Helper()
	pid := w.Running().Parts[part]
	if pid == 0 {
		t.Fatalf("no process of %s is known", part)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s (%d): %v", part, pid, err)
	}
	until(t, part+" runs again", func() error {
		if now := w.Running().Parts[part]; now == 0 || now == pid {
			return errors.New("it does not")
		}
		return nil
	})
}

// until polls a condition every 20 ms; a deadline ends a test that would hang.
func until(t *testing.T, what string, done func() error) {
	t.Helper()
	deadline := time.NewTimer(platform.Deadline)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %s: %v", what, platform.Deadline, err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// mergePatch changes an object, again while the API server is away.
func (w *world) mergePatch(t *testing.T, o client.Object, patch string) {
	t.Helper()
	until(t, "patch "+o.GetName(), func() error {
		return w.Patch(t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(patch)))
	})
}

func keys[V any](m map[string]V) map[string]bool {
	out := map[string]bool{}
	for k := range maps.Keys(m) {
		out[k] = true
	}
	return out
}

func logTail(t *testing.T, path string) {
	if !t.Failed() {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	t.Logf("%s ends:\n%s", path, text[max(0, len(text)-6000):])
}
