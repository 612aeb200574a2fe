package envoy_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
)

// TestTagByHeader takes a Route with a tag from its status to a real Envoy, with the feature on and off.
func TestTagByHeader(t *testing.T) {
	revision := func(name string) *v1.Revision {
		r := &v1.Revision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "u"}}
		r.Spec.Containers = []corev1.Container{{Image: "a"}}
		return r
	}
	revisions := map[string]*v1.Revision{"web-00001": revision("web-00001"), "web-00002": revision("web-00002")}
	all, none := int64(100), int64(0)
	rt := &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "r"}}
	rt.Status.URL = "http://web.default.example.com"
	rt.Status.Traffic = []v1.TrafficTarget{
		{RevisionName: "web-00001", Percent: &all},
		{RevisionName: "web-00002", Percent: &none, Tag: "next", URL: "http://next-web.default.example.com"},
	}
	var clusters []cluster
	for name := range revisions {
		clusters = append(clusters, cluster{name: ir.RevisionCluster("default", name, "u"), protocol: ir.HTTP1, pods: []netip.AddrPort{
			pod(t, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s tag=%s default=%s", name, r.Header.Get("Knative-Serving-Tag"), r.Header.Get("Knative-Serving-Default-Route"))
			}),
		}})
	}
	for _, feature := range []struct {
		value string
		want  [4]string
	}{
		{"Enabled", [4]string{
			"web-00001 tag= default=true", "web-00002 tag=next default=", "web-00001 tag=other default=true", "web-00002 tag=next default=",
		}},
		{"Disabled", [4]string{
			"web-00001 tag= default=", "web-00001 tag=next default=", "web-00001 tag=other default=", "web-00002 tag= default=",
		}},
	} {
		s, err := settings.Default().With(settings.ConfigFeatures, map[string]string{settings.FeatureTagHeaderRouting: feature.value})
		if err != nil {
			t.Fatal(err)
		}
		route, err := translate.Route(rt, func(name string) *v1.Revision { return revisions[name] }, func(string) bool { return false }, s)
		if err != nil {
			t.Fatal(err)
		}
		g := startGateway(t, route.Hosts, clusters...)
		c := g.client(t, g.external)
		for i, tag := range []string{"", "next", "other", ""} {
			url := "http://web.default.example.com/"
			if i == 3 {
				url = "http://next-web.default.example.com/"
			}
			var headers []string
			if tag != "" {
				headers = []string{"Knative-Serving-Tag", tag}
			}
			if a := ask(t, c, "GET", url, nil, headers...); a.body != feature.want[i] {
				t.Errorf("%s: %s with tag %q answers %q, want %q", feature.value, url, tag, a.body, feature.want[i])
			}
		}
	}
}
