package kubelet

import (
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"ebb.dev/ebb/test/e2e/platform"
)

// TestNothingIsLeft: after `ebb uninstall` the cluster has no object of Ebb, of whatever kind, and none of its kinds.
func TestNothingIsLeft(t *testing.T) {
	if os.Getenv("EBB_E2E_UNINSTALLED") == "" {
		t.Skip("runs after `ebb uninstall`: `make test-cluster` does that")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv(platform.ClusterVariable))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := d.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(version.Group, "knative.dev") || strings.Contains(version.Group, "ebb.dev") {
			t.Errorf("%s is still served", list.GroupVersion)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || r.Name == "events" {
				continue
			}
			kinds++
			all, err := c.Resource(version.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Errorf("list %s: %v", r.Name, err)
				continue
			}
			for _, o := range all.Items {
				if o.GetLabels()["app.kubernetes.io/part-of"] == "ebb" || strings.HasPrefix(o.GetName(), "ebb-") || o.GetNamespace() == "ebb-system" || strings.Contains(o.GetName(), "knative.dev") {
					t.Errorf("left: %s %s/%s", r.Name, o.GetNamespace(), o.GetName())
				}
			}
		}
	}
	if kinds < 30 {
		t.Errorf("only %d kinds were looked at", kinds)
	}
}
