package e2e

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// burn keeps one pod of the Service busy until the test ends.
func burn(t *testing.T, n *platform.Namespace, service string) {
	t.Helper()
	pod := n.AwaitReadyPods(service, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.PodURL(pod, "/burn"), nil)
		if err != nil {
			t.Error(err)
			return
		}
		if answer, err := http.DefaultClient.Do(r); err == nil {
			answer.Body.Close()
			t.Errorf("burning ended: %s", answer.Status)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// needsMetrics skips a test where nobody measures pods.
func needsMetrics(t *testing.T, n *platform.Namespace) {
	t.Helper()
	if _, _, err := n.Command(t.Context(), "", "kubectl", "get", "--raw", "/apis/metrics.k8s.io/v1beta1"); err != nil {
		t.Skip("the cluster has no metrics server (metrics.k8s.io is not served)")
	}
}

// eventually asks a command until what it prints is taken.
func eventually(t *testing.T, n *platform.Namespace, taken func(out string) bool, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), platform.Deadline)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		out, errOut, err := n.Command(ctx, "", args...)
		if err == nil && taken(out) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%v: the last answer was %q %q %v", args, out, errOut, err)
		}
	}
}

// TestTop: kubectl top shows which pod burns, and who may view a namespace may see it.
func TestTop(t *testing.T) {
	n := begin(t)
	needsMetrics(t, n)
	keep := func(s *v1.Service) { s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1" }
	n.Deploy("idle", keep)
	n.Deploy("busy", keep)
	burn(t, n, "busy")
	row := regexp.MustCompile(`(?m)^(idle|busy)-\S+ +user-container +(\d+)m +(\d+)Mi`)
	eventually(t, n, func(out string) bool {
		used := map[string]int{}
		for _, m := range row.FindAllStringSubmatch(out, -1) {
			used[m[1]], _ = strconv.Atoi(m[2])
			if m[3] == "0" {
				return false
			}
		}
		return len(used) == 2 && used["busy"] > 50 && used["idle"] < used["busy"]
	}, "kubectl", "-n", n.In, "top", "pod", "--containers")
	eventually(t, n, func(out string) bool {
		return len(regexp.MustCompile(`(?m)^busy-`).FindAllString(out, -1)) == 1 && !regexp.MustCompile(`(?m)^idle-`).MatchString(out)
	}, "kubectl", "-n", n.In, "top", "pod", "-l", serving.ServiceLabel+"=busy")
	eventually(t, n, func(out string) bool {
		return regexp.MustCompile(`(?m)^` + n.NodeName(t) + ` +[1-9]\d*m +\d+% +[1-9]\d*Mi +\d+%`).MatchString(out)
	}, "kubectl", "top", "node")

	const viewer = "--as=viewer"
	if out, errOut, err := n.Command(t.Context(), "", "kubectl", "-n", n.In, "get", "podmetrics", viewer); err == nil || !regexp.MustCompile("Forbidden|forbidden").MatchString(errOut) {
		t.Errorf("who may nothing is answered %q %q %v", out, errOut, err)
	}
	command(t, n, "kubectl", "create", "rolebinding", "viewer", "--clusterrole=view", "--user=viewer")
	eventually(t, n, func(out string) bool { return regexp.MustCompile(`(?m)^busy-`).MatchString(out) }, "kubectl", "-n", n.In, "get", "podmetrics", viewer)
	if _, errOut, err := n.Command(t.Context(), "", "kubectl", "get", "podmetrics", "-A", viewer); err == nil || !regexp.MustCompile("forbidden").MatchString(errOut) {
		t.Errorf("who may see a namespace sees all: %q %v", errOut, err)
	}
}

// TestHPAOnCPU: Kubernetes scales a Service of class hpa by the cpu that its pods use.
func TestHPAOnCPU(t *testing.T) {
	n := begin(t)
	needsMetrics(t, n)
	n.Deploy("web", func(s *v1.Service) {
		a := s.Spec.Template.Annotations
		a[serving.ClassAnnotation], a[serving.MetricAnnotation], a[serving.TargetAnnotation] = serving.ClassHPA, serving.MetricCPU, "80"
		a[serving.MaxScaleAnnotation] = "2"
		s.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m")}
	})
	burn(t, n, "web")
	n.AwaitReadyPods("web", 2)
	eventually(t, n, func(out string) bool { return out == "True" }, "kubectl", "-n", n.In, "get", "hpa", "web-00001", "-o", `jsonpath={.status.conditions[?(@.type=="ScalingActive")].status}`)
}

// TestHPAOnMemory: Kubernetes scales a Service of class hpa by the memory that its pods have, on average, from one pod.
func TestHPAOnMemory(t *testing.T) {
	n := begin(t)
	needsMetrics(t, n)
	// test/app has a tenth of the target; what it then holds is far above it for two pods too, so that no
	// reading of the memory gives another number of pods.
	n.Deploy("web", func(s *v1.Service) {
		a := s.Spec.Template.Annotations
		a[serving.ClassAnnotation], a[serving.MetricAnnotation], a[serving.TargetAnnotation] = serving.ClassHPA, serving.MetricMemory, "200"
		a[serving.MaxScaleAnnotation] = "2"
	})
	pod := n.AwaitReadyPods("web", 1)[0]
	got := command(t, n, "kubectl", "get", "hpa", "web-00001", "-o", "jsonpath={.apiVersion} {.spec.minReplicas} {.spec.maxReplicas} {.spec.metrics}")
	matches(t, "kubectl get hpa", got, `^autoscaling/v2 1 2 \[\{"resource":\{"name":"memory","target":\{"averageValue":"200Mi","type":"AverageValue"\}\},"type":"Resource"\}\]$`)
	status := func(pattern string) {
		t.Helper()
		eventually(t, n, regexp.MustCompile(pattern).MatchString, "kubectl", "-n", n.In, "get", "hpa", "web-00001", "-o",
			`jsonpath={.status.currentReplicas} {.status.desiredReplicas} {.status.conditions[?(@.type=="ScalingActive")].status} {.status.currentMetrics[0].resource.current.averageValue}`)
	}
	status(`^1 1 True [1-9]`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.PodURL(pod, "/hold?mi=1000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := platform.Call(http.DefaultClient, r); err != nil || a.Status != http.StatusOK {
		t.Fatalf("POST %s: %s %v", r.URL, a, err)
	}
	n.AwaitReadyPods("web", 2)
	status(`^2 2 True [1-9]`)
}
