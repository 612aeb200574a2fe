package e2e

import (
	"net/http"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

func key(n *platform.Namespace, name string) client.ObjectKey {
	return client.ObjectKey{Namespace: n.In, Name: name}
}

func TestClusterLocalIsNotReachedFromOutside(t *testing.T) {
	n := begin(t)
	n.Deploy("open", says("open"))
	s := n.Deploy("closed", func(s *v1.Service) {
		s.Labels = map[string]string{serving.VisibilityLabel: serving.VisibilityClusterLocal}
	})
	if want := "http://closed." + n.In + ".svc.cluster.local"; !strings.HasPrefix(s.Status.URL, want) {
		t.Errorf("its URL is %q, want %s", s.Status.URL, want)
	}
	var r v1.Revision
	if err := n.WithWatch.Get(t.Context(), key(n, "closed-00001"), &r); err != nil {
		t.Fatal(err)
	}
	cluster := "rev/" + n.In + "/closed-00001/" + string(r.UID)
	c := n.Client(platform.External)
	hosts := []string{n.URL("closed", "/"), n.InternalURL("closed", "/"), "http://closed." + n.In + ".svc/", "http://closed." + n.In + "/", n.InternalURL("open", "/"), "http://CLOSED." + n.In + ".svc.cluster.local/"}
	for _, url := range hosts {
		for _, forged := range []http.Header{
			{},
			{"X-Ebb-Audience": {"internal"}, "X-Ebb-Revision": {cluster}},
			{"X-Ebb-Audience": {"in-cluster"}, "X-Ebb-Scope": {"internal"}, "X-Ebb-Host": {"closed." + n.In + ".svc.cluster.local"}},
			{"X-Forwarded-Host": {"closed." + n.In + ".svc.cluster.local"}, "Forwarded": {"host=closed." + n.In}},
		} {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			q.Header = forged
			if a, err := platform.Call(c, q); err != nil || a.Status != http.StatusNotFound {
				t.Errorf("GET %s on the external listener with %v answers %s, %v, want 404", url, forged, a, err)
			}
		}
	}
	for _, url := range []string{n.InternalURL("closed", "/"), "http://closed." + n.In + ".svc/", "http://closed." + n.In + "/"} {
		if a, err := n.Fetch(t.Context(), platform.Internal, url); err != nil || a.Revision() != "closed-00001" {
			t.Errorf("GET %s on the internal listener answers %s, %v", url, a, err)
		}
	}
	// A forged revision on an open host changes nothing.
	q, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL("open", "/"), nil)
	q.Header.Set("X-Ebb-Revision", cluster)
	if a, err := platform.Call(c, q); err != nil || a.Revision() != "open-00001" {
		t.Errorf("a forged x-ebb-revision led to %s, %v", a, err)
	}

	// Opened and closed again.
	n.Change("closed", func(s *v1.Service) { delete(s.Labels, serving.VisibilityLabel) })
	n.AwaitReady("closed")
	n.AwaitAnswer(t, platform.External, n.URL("closed", "/"), func(a platform.Answer) bool { return a.Revision() == "closed-00001" })
	n.Change("closed", func(s *v1.Service) {
		s.Labels = map[string]string{serving.VisibilityLabel: serving.VisibilityClusterLocal}
	})
	n.AwaitReady("closed")
	n.AwaitAnswer(t, platform.External, n.URL("closed", "/"), func(a platform.Answer) bool { return a.Status == http.StatusNotFound })
}
