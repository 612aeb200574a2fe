package config_test

import (
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"ebb.dev/ebb/config"
)

// TestEventingCRDs: what kubectl and kn look at is as they expect it.
func TestEventingCRDs(t *testing.T) {
	crds, err := config.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct{ version, short, categories, columns, labels string }{
		"brokers.eventing.knative.dev":         {"v1", "", "all knative eventing", "URL Age Ready Reason", "duck.knative.dev/addressable"},
		"triggers.eventing.knative.dev":        {"v1", "", "all knative eventing", "Broker Subscriber_URI Age Ready Reason", ""},
		"eventtypes.eventing.knative.dev":      {"v1beta2", "", "all knative eventing", "Type Source Schema Reference_Name Reference_Kind Description Ready Reason", ""},
		"channels.messaging.knative.dev":       {"v1", "ch", "all knative messaging channel", "URL Age Ready Reason", "duck.knative.dev/addressable messaging.knative.dev/subscribable"},
		"subscriptions.messaging.knative.dev":  {"v1", "sub", "all knative messaging", "Age Ready Reason", ""},
		"sequences.flows.knative.dev":          {"v1", "", "all knative flows", "URL Age Ready Reason", "duck.knative.dev/addressable"},
		"parallels.flows.knative.dev":          {"v1", "", "all knative flows", "URL Age Ready Reason", "duck.knative.dev/addressable"},
		"pingsources.sources.knative.dev":      {"v1", "", "all knative sources", "Sink Schedule Age Ready Reason", "duck.knative.dev/source eventing.knative.dev/source"},
		"apiserversources.sources.knative.dev": {"v1", "", "all knative sources", "Sink Age Ready Reason", "duck.knative.dev/source eventing.knative.dev/source"},
		"containersources.sources.knative.dev": {"v1", "", "all knative sources", "Sink Age Ready Reason", "duck.knative.dev/source eventing.knative.dev/source"},
		"sinkbindings.sources.knative.dev":     {"v1", "", "all knative sources bindings", "Sink Age Ready Reason", "duck.knative.dev/binding duck.knative.dev/source eventing.knative.dev/source"},
	}
	for _, crd := range crds {
		w, ok := want[crd.Name]
		if !ok {
			continue
		}
		delete(want, crd.Name)
		v := crd.Spec.Versions[0]
		var columns, labels []string
		for _, c := range v.AdditionalPrinterColumns {
			columns = append(columns, strings.ReplaceAll(c.Name, " ", "_"))
		}
		for key := range crd.Labels {
			labels = append(labels, key)
		}
		slices.Sort(labels)
		for what, pair := range map[string][2]string{
			"version": {v.Name, w.version}, "short names": {strings.Join(crd.Spec.Names.ShortNames, " "), w.short},
			"categories": {strings.Join(crd.Spec.Names.Categories, " "), w.categories},
			"columns":    {strings.Join(columns, " "), w.columns}, "labels": {strings.Join(labels, " "), w.labels},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %s %q, want %q", crd.Name, what, pair[0], pair[1])
			}
		}
		if v.Subresources == nil || v.Subresources.Status == nil || crd.Spec.Scope != apiextensionsv1.NamespaceScoped {
			t.Errorf("%s: no status subresource, or not namespaced", crd.Name)
		}
		if d := v.Schema.OpenAPIV3Schema.Properties["status"].Default; d == nil || string(d.Raw) != `{"observedGeneration":0}` {
			t.Errorf("%s: the default of status is %v", crd.Name, d)
		}
		structuralSchema(t, crd.Name, &v)
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}
