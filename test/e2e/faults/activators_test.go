package faults

import (
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// A platform with three activators, which are killed and told to go one after the other.
func TestThreeActivators(t *testing.T) {
	shared.Platform(t) // skips where there is none
	p, err := platform.Start(t.Context(), "--activators", "3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	// One activator for every request that pods may serve at once, so that all three share a small service.
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: "config-autoscaler"}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"data":{"activator-capacity":"1"}}`))
	if err := p.Patch(t.Context(), settings, patch); err != nil {
		t.Fatal(err)
	}
	t.Run("held", func(t *testing.T) {
		for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "told to go": syscall.SIGTERM} {
			t.Run(name, func(t *testing.T) { heldElsewhere(t, p, signal) })
		}
	})
	for _, limit := range []int{1, 10, 100} {
		t.Run(fmt.Sprintf("limit of %d", limit), func(t *testing.T) { exactLimit(t, p, limit) })
	}
}

// heldElsewhere: what an activator holds is taken by another one when it goes, and is answered by a pod that
// saw each request once.
func heldElsewhere(t *testing.T, p *platform.Platform, signal syscall.Signal) {
	w := worldOn(t, p)
	w.DeployAtZero("held", func(s *v1.Service) {
		quick("max-scale", "1", "target", "1000")(s)
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "START_DELAY", Value: "8s"}}
	})
	const each = 20
	results := make(chan error)
	for range each {
		for method, size := range map[string]int{http.MethodGet: 0, http.MethodPost: 10_000} {
			go func() { results <- w.echo(t.Context(), "held", method, size) }()
		}
	}
	all := func() (total int, one string, err error) {
		for part := range p.Running().Activators {
			n, e := w.held(part)
			if total += n; n > 0 {
				one = part
			}
			if e != nil {
				err = e
			}
		}
		return total, one, err
	}
	holder := ""
	until(t, "all are held", func() error {
		total, one, err := all()
		if holder = one; total != 2*each {
			return fmt.Errorf("%d of %d are (%w)", total, 2*each, err)
		}
		return nil
	})
	pid := w.Kill(t, holder, signal)
	for range 2 * each {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	w.AwaitPart(t, holder, pid)
	if c := counters(t, w.pods("held", 1, 1)[0]); c.Total != 2*each {
		t.Errorf("the pod saw %d requests, want each of %d once", c.Total, 2*each)
	}
}

// exactLimit: activators are killed and told to go, pods come and go, the controller is killed, and all
// the while more is asked for than the pods may serve. No pod ever has more than its limit, and no request fails.
func exactLimit(t *testing.T, p *platform.Platform, limit int) {
	w := worldOn(t, p)
	w.Deploy("limited", func(s *v1.Service) {
		quick("min-scale", "2", "max-scale", "4")(s)
		delete(s.Spec.Template.Annotations, "autoscaling.knative.dev/target")
		concurrency := int64(limit)
		s.Spec.Template.Spec.ContainerConcurrency = &concurrency
	})
	check := func(pods []*corev1.Pod) {
		t.Helper()
		for _, pod := range pods {
			if c := counters(t, pod); c.Most > int64(limit) {
				t.Errorf("pod %s had %d requests at once, the limit is %d", pod.Name, c.Most, limit)
			}
		}
	}
	load := w.loop(t, "limited", "/sleep?ms="+strconv.Itoa(5+limit/2), min(20+2*limit, 220))
	w.await(t, load, 200)
	pods := w.pods("limited", 3, 4) // there is more to do than two can
	for i, part := range []string{"activator", "activator-1", "controller", "activator-2"} {
		signal := syscall.SIGKILL
		if i%2 == 1 {
			signal = syscall.SIGTERM
		}
		pid := w.Kill(t, part, signal)
		w.await(t, load, 200)
		w.AwaitPart(t, part, pid)
		w.await(t, load, 200)
	}
	check(pods)
	if err := w.WithWatch.Delete(t.Context(), pods[0]); err != nil {
		t.Fatal(err)
	}
	w.await(t, load, 200)
	load.stopClean(t)
	check(w.pods("limited", 2, 4))
}
