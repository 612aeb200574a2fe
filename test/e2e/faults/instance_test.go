package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

var shared = platform.Shared{Wired: true}

func TestMain(m *testing.M) { shared.Main(m) }

// world is a test's namespace with a client of its own on the gateway.
type world struct {
	*platform.Namespace
	http *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return worldOn(t, shared.Platform(t))
}

func worldOn(t *testing.T, p *platform.Platform) *world {
	t.Helper()
	n := p.Namespace(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, DialContext: n.Dial(platform.External)}
	t.Cleanup(transport.CloseIdleConnections)
	return &world{n, &http.Client{Transport: transport}}
}

// quick is a Service that scales at 5 requests a pod, over a window of 6 seconds; more are names and values of autoscaling annotations.
func quick(more ...string) func(*v1.Service) {
	return func(s *v1.Service) {
		a := s.Spec.Template.Annotations
		a["autoscaling.knative.dev/window"], a["autoscaling.knative.dev/target"] = "6s", "5"
		for i := 0; i+1 < len(more); i += 2 {
			a["autoscaling.knative.dev/"+more[i]] = more[i+1]
		}
	}
}

// pods waits until a service has between least and most pods, all ready, none ending.
func (w *world) pods(service string, least, most int) []*corev1.Pod {
	w.Helper()
	return w.AwaitPods(service, func(pods []*corev1.Pod) error {
		for _, p := range pods {
			if p.DeletionTimestamp != nil || !platform.PodReady(p) {
				return fmt.Errorf("pod %s ends or is not ready", p.Name)
			}
		}
		if len(pods) < least || len(pods) > most {
			return fmt.Errorf("there are %d, want %d to %d", len(pods), least, most)
		}
		return nil
	})
}

func names(pods []*corev1.Pod) map[string]bool {
	out := map[string]bool{}
	for _, p := range pods {
		out[p.Name] = true
	}
	return out
}

// counted are a pod's requests by its own account: in progress, the most at once, and in all.
type counted struct{ Now, Most, Total int64 }

func counters(t *testing.T, pod *corev1.Pod) (c counted) {
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

// restart ends a part with SIGKILL and returns when it has been started again and serves.
func (w *world) restart(part string) {
	w.Helper()
	w.AwaitPart(w, part, w.Kill(w, part, syscall.SIGKILL))
}

// until polls a condition every 20 ms; a deadline ends a test that would hang.
func until(t testing.TB, what string, done func() error) {
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
func (w *world) mergePatch(t testing.TB, o client.Object, patch string) {
	t.Helper()
	until(t, "patch "+o.GetName(), func() error {
		return w.Patch(context.Background(), o, client.RawPatch("application/merge-patch+json", []byte(patch)))
	})
}
