package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestGatewayMetrics: the page of the gateway has the requests of a Service in use, by class.
func TestGatewayMetrics(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("shop", nil)
	for range 3 {
		n.MustFetch(t, n.URL("shop", "/"))
	}
	n.AwaitAnswer(t, platform.External, n.URL("shop", "/status?code=404"), func(a platform.Answer) bool { return a.Status == http.StatusNotFound })
	series := func(class string) *regexp.Regexp {
		return regexp.MustCompile(`(?m)^envoy_cluster_upstream_rq\{class="` + class + `",namespace="` + n.In + `",revision="shop-00001",service="shop"\} (\d+)$`)
	}
	var text string
	for _, address := range n.GatewayPages(t) { // the requests went to any of them
		text += page(t, "http://"+address+"/metrics")
	}
	sorted := regexp.MustCompile(`\{([^}]*)\}`).ReplaceAllStringFunc(text, func(labels string) string {
		parts := strings.Split(strings.Trim(labels, "{}"), ",")
		for i := range parts { // four of them, in any order
			for j := i + 1; j < len(parts); j++ {
				if parts[j] < parts[i] {
					parts[i], parts[j] = parts[j], parts[i]
				}
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	})
	for class, want := range map[string]int{"2xx": 3, "4xx": 1} {
		sum := 0
		for _, m := range series(class).FindAllStringSubmatch(sorted, -1) {
			count, _ := strconv.Atoi(m[1])
			sum += count
		}
		if sum != want {
			t.Errorf("%d requests are counted as %s, want %d:\n%s", sum, class, want, sorted)
		}
	}
}

// TestRequestLogIsTakenLive turns the gateway's log of requests on and off again while it serves.
func TestRequestLogIsTakenLive(t *testing.T) {
	n := shared.Platform(t).Namespace(t) // alone: a setting of the whole platform
	n.DeployAtZero("logged", nil)
	n.MustFetch(t, n.URL("logged", "/before"))
	set := func(ctx context.Context, data string) {
		t.Helper()
		settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: "config-observability"}}
		if err := n.Create(ctx, settings.DeepCopy()); client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
		if err := n.Patch(ctx, settings, client.RawPatch("application/merge-patch+json", []byte(`{"data":`+data+`}`))); err != nil {
			t.Fatal(err)
		}
	}
	logged := func(path string) bool {
		for line := range strings.Lines(n.GatewayLog(t)) {
			var one struct{ Path, Host, Revision string }
			if i := strings.IndexByte(line, '{'); i >= 0 && json.Unmarshal([]byte(line[i:]), &one) == nil && one.Path == path && one.Revision == "revision/"+n.In+"/logged/logged-00001" {
				return true
			}
		}
		return false
	}
	number := func(ctx context.Context, url, series string) string {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := platform.Call(http.DefaultClient, r)
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("GET %s: %s %v", url, answer, err)
		}
		if m := regexp.MustCompile(`(?m)^` + series + ` (\S+)$`).FindStringSubmatch(answer.Body); m != nil {
			return m[1]
		}
		return "0"
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		deadline := time.After(platform.Deadline)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for !holds() {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("not in time: %s", what)
			}
		}
	}
	// change returns when the gateway has taken the setting, and has ended the connections of before.
	change := func(ctx context.Context, data string) {
		t.Helper()
		acks := func() string {
			return number(ctx, "http://"+n.Running().Controller+"/metrics", `ebb_xds_answer_seconds_count\{answer="ack",type="[^"]*Listener"\}`)
		}
		before := acks()
		set(ctx, data)
		until("listeners acknowledged", func() bool { return acks() != before })
		until("connections of before ended", func() bool {
			for _, address := range n.GatewayPages(t) {
				if number(ctx, "http://"+address+"/metrics", "envoy_listener_manager_total_filter_chains_draining") != "0" {
					return false
				}
			}
			return true
		})
	}
	change(t.Context(), `{"logging.enable-request-log":"true"}`)
	t.Cleanup(func() { change(context.Background(), `{"logging.enable-request-log":null}`) })
	n.MustFetch(t, n.URL("logged", "/after?token=secret"))
	until("a line of the log", func() bool { return logged("/after") })
	if logged("/before") {
		t.Error("a request of before is logged")
	}
	if _, errOut, err := n.Command(t.Context(), "", "kubectl", "-n", serving.Namespace, "patch", "configmap", "config-observability", "--type=merge", "-p", `{"data":{"tracing-sampling-rate":"2"}}`); err == nil || !strings.Contains(errOut, "tracing-sampling-rate: 2 is outside 0..1") {
		t.Errorf("a rate of 2 is taken: %q %v", errOut, err)
	}
}
