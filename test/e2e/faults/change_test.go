package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// two deploys a Service with two revisions of one or two pods each, and returns it.
func (w *world) two(t *testing.T, name string) *v1.Service {
	t.Helper()
	w.Deploy(name, quick("min-scale", "1", "max-scale", "2", "target", "100"))
	w.Change(name, func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = append(s.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "TARGET", Value: "second"})
	})
	w.AwaitReady(name)
	w.split(t, name, 50)
	return w.AwaitReady(name)
}

// split gives a percentage of the traffic to the first revision and the rest to the second.
func (w *world) split(t *testing.T, name string, first int) {
	t.Helper()
	w.mergePatch(t, &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.In, Name: name}}, splitPatch(name, first))
}

func splitPatch(name string, first int) string {
	return fmt.Sprintf(
		`{"spec":{"traffic":[{"revisionName":"%[1]s-00001","latestRevision":false,"percent":%[2]d},{"revisionName":"%[1]s-00002","latestRevision":false,"percent":%[3]d}]}}`,
		name, first, 100-first)
}

func TestSplitsUnderLoad(t *testing.T) {
	const changes, perSecond = 200, 1000
	w := newWorld(t)
	w.two(t, "web")
	load := w.rate(t, "web", "/", perSecond)
	w.await(t, load, perSecond)
	began := time.Now()
	for i := range changes {
		w.split(t, "web", []int{100, 0, 10, 90, 50}[i%5])
		w.AwaitReady("web")
	}
	t.Logf("%d changes, each until Ready: %v a change", changes, (time.Since(began) / changes).Round(time.Microsecond*100))
	for _, first := range []int{100, 0} {
		w.split(t, "web", first)
		w.AwaitReady("web")
		want := map[int]string{100: "web-00001", 0: "web-00002"}[first]
		for range 50 { // Ready means that the gateways have it
			if body, err := w.get(t.Context(), "web", "/"); err != nil || !strings.HasPrefix(body, want+" ") {
				t.Fatalf("after Ready with all traffic for %s: %q, %v", want, body, err)
			}
		}
	}
	load.stopClean(t)
}

func TestRestartSendsNothing(t *testing.T) {
	w := newWorld(t)
	// What other tests leave behind is still being deleted, which is sent: wait for a world that stands
	// still. A namespace goes slowly, because Kubernetes waits for the grace of its pods and looks again
	// minutes later; the services in it can go at once.
	var others v1.ServiceList
	if err := w.List(t.Context(), &others); err != nil {
		t.Fatal(err)
	}
	for i := range others.Items {
		if err := client.IgnoreNotFound(w.Delete(t.Context(), &others.Items[i])); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "no other service exists", func() error {
		var pods corev1.PodList
		var routes v1.RouteList
		if err := errors.Join(w.List(t.Context(), &pods), w.List(t.Context(), &routes)); err != nil {
			return err
		}
		if len(pods.Items)+len(routes.Items) > 0 {
			return fmt.Errorf("%d pods and %d routes are left", len(pods.Items), len(routes.Items))
		}
		return nil
	})
	w.two(t, "web")
	if _, err := w.get(t.Context(), "web", "/"); err != nil {
		t.Fatal(err)
	}
	load := w.rate(t, "web", "/", 100)
	w.await(t, load, 100)
	w.restart("controller")
	until(t, "the gateway is back", func() error {
		m, err := w.metrics(t.Context())
		if err == nil && m[`ebb_xds_streams{role="gateway"}`] < 1 {
			err = fmt.Errorf("it has no stream")
		}
		return err
	})
	// One change, so that all that the restart caused lies before its arrival.
	w.split(t, "web", 25)
	w.AwaitReady("web") // acknowledged
	m, err := w.metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := 0.0
	for name, v := range m {
		if strings.HasPrefix(name, "ebb_xds_re") {
			t.Logf("%s %v", name, v)
		}
		if strings.HasPrefix(name, "ebb_xds_resources_total") {
			sent += v
		}
	}
	if sent != 1 {
		t.Errorf("%v resources were sent after a restart and one split change, want 1: the route configuration", sent)
	}
	load.stopClean(t)
}

// metrics of the discovery server, by name with labels.
func (w *world) metrics(ctx context.Context) (map[string]float64, error) {
	return metricsOf(ctx, w.Running().Controller)
}

func metricsOf(ctx context.Context, address string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if strings.HasPrefix(name, "ebb_") {
			out[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return out, nil
}

// A changed ConfigMap is in effect at once for what runs.
func TestSettingsLive(t *testing.T) {
	w := newWorld(t)
	w.Deploy("web", func(s *v1.Service) { quick()(s); delete(s.Spec.Template.Annotations, "autoscaling.knative.dev/target") })
	load := w.loop(t, "web", "/sleep?ms=200", 12)
	w.await(t, load, 60)
	w.pods("web", 1, 1)
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ebb-system", Name: "config-autoscaler"}}
	w.mergePatch(t, config, `{"data":{"container-concurrency-target-default":"3"}}`)
	defer w.mergePatch(t, config, `{"data":{"container-concurrency-target-default":null}}`)
	w.AwaitPods("web", atLeast(4))
	w.mergePatch(t, config, `{"data":{"container-concurrency-target-default":"100"}}`)
	w.pods("web", 1, 1)
	load.stopClean(t)
}
