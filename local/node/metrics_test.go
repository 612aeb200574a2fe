package node_test

import (
	"encoding/json"
	"net/http"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// testMetrics: what containers use is told, with and without control groups, and after a new
// node process has taken them over; to the front proxy alone.
func testMetrics(t *testing.T, c *cluster) {
	as := func(config *rest.Config) *http.Client {
		t.Helper()
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	const base = "/apis/metrics.k8s.io/v1beta1"
	get := func(client *http.Client, path string) (*http.Response, error) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+c.cfg.Metrics+base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(r)
	}
	proxy := as(clientConfig("", c.pki, "kubelet-client"))
	nobody := clientConfig("", c.pki, "")
	nobody.CertFile, nobody.KeyFile = "", ""
	if answer, err := get(as(nobody), "/pods"); err == nil {
		answer.Body.Close()
		t.Errorf("who has no certificate is answered %s", answer.Status)
	}
	if answer, err := get(as(clientConfig("", c.pki, "admin")), "/pods"); err != nil {
		t.Error(err)
	} else if answer.Body.Close(); answer.StatusCode != http.StatusForbidden {
		t.Errorf("another client is answered %s", answer.Status)
	}

	c.pod("measured", nil)
	c.pod("limited", func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("256Mi"), v1.ResourceCPU: resource.MustParse("1")}
	})
	c.when("measured", "ready", ready)
	c.when("limited", "ready", ready)
	told := func(name string) {
		t.Helper()
		c.until("metrics of "+name, func() bool {
			answer, err := get(proxy, "/namespaces/default/pods/"+name)
			if err != nil {
				return false // the node is about to listen
			}
			defer answer.Body.Close()
			var m metrics.PodMetrics
			if answer.StatusCode != http.StatusOK || json.NewDecoder(answer.Body).Decode(&m) != nil || len(m.Containers) != 1 || m.Containers[0].Name != "app" {
				return false
			}
			used := m.Containers[0].Usage
			return used.Memory().Value() > 1<<20 && used.Memory().Value() < 256<<20 && m.Window.Seconds() >= 1
		})
	}
	told("measured")
	told("limited")
	c.killNode()
	c.startNode()
	told("measured")
	told("limited")
	c.delete("measured")
	c.delete("limited")
}
