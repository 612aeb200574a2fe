package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// The only activator is killed while it holds requests: each of them is answered, by a
// pod that saw it once.
func TestActivatorKilledWithWhatItHolds(t *testing.T) {
	w := newWorld(t)
	w.DeployAtZero("held", func(s *v1.Service) {
		quick("max-scale", "1", "target", "1000")(s)
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "START_DELAY", Value: "4s"}}
	})
	const each = 25
	results := make(chan error)
	for range each {
		for method, size := range map[string]int{http.MethodGet: 0, http.MethodPost: 10_000} {
			go func() { results <- w.echo(t.Context(), "held", method, size) }()
		}
	}
	until(t, "all are held", func() error {
		if held, err := w.held("activator"); held != 2*each {
			return fmt.Errorf("%d of %d are (%w)", held, 2*each, err)
		}
		return nil
	})
	pid := w.Kill(t, "activator", syscall.SIGKILL)
	lost := 0
	for range 2 * each {
		if err := <-results; err != nil {
			lost++
			t.Error(err)
		}
	}
	t.Logf("%d of %d held requests lost with their activator", lost, 2*each)
	w.AwaitPart(t, "activator", pid)
	if c := counters(t, w.pods("held", 1, 1)[0]); c.Total != 2*each {
		t.Errorf("the pod saw %d requests, want each of %d once", c.Total, 2*each)
	}
}

// held is how many requests an activator holds now.
func (w *world) held(part string) (int, error) {
	resp, err := http.Get("http://" + w.Running().Activators[part] + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "ebb_activator_requests_held "); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("%s does not say", part)
}

// echo sends a body of a size, and wants it back.
func (w *world) echo(ctx context.Context, service, method string, size int) error {
	req, err := http.NewRequestWithContext(ctx, method, w.URL(service, "/echo"), strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		return err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || len(body) != size {
		return fmt.Errorf("%s of %d bytes: %s, %d bytes back (%w)", method, size, resp.Status, len(body), err)
	}
	return nil
}
