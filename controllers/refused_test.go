package controllers_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// quotaOf allows none of a kind; there is no controller here that would fill in its status.
func (p *platform) quotaOf(t *testing.T, ns, resourceName string) *corev1.ResourceQuota {
	t.Helper()
	none := corev1.ResourceList{corev1.ResourceName("count/" + resourceName): resource.MustParse("0")}
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: ns, GenerateName: "none-"}, Spec: corev1.ResourceQuotaSpec{Hard: none}}
	p.create(t, q)
	q.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
	if err := p.Status().Update(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	return q
}

// refused: what the API server says when it takes no Configuration, Route, Revision or
// Deployment is shown, and all is well once it does.
func refused(t *testing.T, p *platform, _ string) {
	for _, kind := range []struct {
		resource string
		shown    func(*v1.Service) string
	}{
		{"configurations.serving.knative.dev", func(s *v1.Service) string {
			return says(s.Status.Conditions, v1.ServiceConfigurationsReady, no, "FailedCreate", "exceeded quota")
		}},
		{"routes.serving.knative.dev", func(s *v1.Service) string {
			return says(s.Status.Conditions, v1.ServiceRoutesReady, no, "FailedCreate", "exceeded quota")
		}},
		{"revisions.serving.knative.dev", func(s *v1.Service) string {
			return says(s.Status.Conditions, v1.ConditionReady, no, v1.ReasonRevisionFailed, "exceeded quota")
		}},
		{"deployments.apps", func(s *v1.Service) string {
			return says(s.Status.Conditions, v1.ConditionReady, no, v1.ReasonRevisionFailed, "exceeded quota")
		}},
	} {
		t.Run(kind.resource, func(t *testing.T) {
			t.Parallel()
			ns := p.namespace(t)
			q := p.quotaOf(t, ns, kind.resource)
			p.create(t, p.service(ns, "none", "app:v1"))
			eventually(t, p, &v1.Service{}, ns, "none", "it says what the API server said", kind.shown)
			if err := p.Delete(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			p.pod(t, ns, "none-00001", "none-1", up)
			eventually(t, p, &v1.Service{}, ns, "none", "ready", isReady)
		})
	}
}

// registryDown: a registry that is down is waited for, and others are not.
func registryDown(t *testing.T, p *platform, ns string) {
	var down atomic.Bool
	down.Store(true)
	good := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.registry})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "maintenance", http.StatusServiceUnavailable)
			return
		}
		good.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	s := p.service(ns, "waits", "app:v1")
	s.Spec.Template.Spec.Containers[0].Image = host + "/app:v1"
	p.create(t, s)
	eventually(t, p, &v1.Service{}, ns, "waits", "it says what it waits for", func(s *v1.Service) string {
		return says(s.Status.Conditions, v1.ConditionReady, unknown, v1.ReasonResolvingDigests, host+"/app:v1")
	})
	eventually(t, p, &v1.Revision{}, ns, "waits-00001", "so does the revision", func(r *v1.Revision) string {
		return says(r.Status.Conditions, v1.RevisionContainerHealthy, unknown, v1.ReasonResolvingDigests, "tried again")
	})
	p.ready(t, ns, "other")
	down.Store(false)
	p.pod(t, ns, "waits-00001", "waits-1", up)
	eventually(t, p, &v1.Service{}, ns, "waits", "ready once the registry is back", isReady)
}

// privateRegistry: credentials come from the pod's pull secrets and from its service
// account's; without them the registry's answer is shown, and looked at again.
func privateRegistry(t *testing.T, p *platform, ns string) {
	good := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.registry})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`))
			return
		}
		good.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	deploy := func(name string, change func(*v1.Service)) {
		t.Helper()
		s := p.service(ns, name, "app:v1")
		s.Spec.Template.Spec.Containers[0].Image = host + "/app:v1"
		change(s)
		p.create(t, s)
	}
	deploy("without", func(*v1.Service) {})
	deploy("by-pod", func(s *v1.Service) {
		s.Spec.Template.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	})
	deploy("by-account", func(s *v1.Service) { s.Spec.Template.Spec.ServiceAccountName = "puller" })
	for _, name := range []string{"without", "by-pod", "by-account"} {
		failsWith(t, p, ns, name, v1.ReasonContainerMissing, "who are you")
	}
	p.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{"` + host + `":{"username":"ann","password":"hunter2"}}}`}})
	p.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "puller"},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}})
	for _, name := range []string{"by-pod", "by-account"} {
		rev := eventually(t, p, &v1.Revision{}, ns, name+"-00001", "its digest is known", func(r *v1.Revision) string {
			if len(r.Status.ContainerStatuses) == 0 {
				return "not yet"
			}
			return ""
		})
		if digest := rev.Status.ContainerStatuses[0].ImageDigest; !strings.HasPrefix(digest, host+"/app@sha256:") {
			t.Errorf("%s: digest %q", name, digest)
		}
		p.pod(t, ns, name+"-00001", name+"-1", up)
		eventually(t, p, &v1.Service{}, ns, name, "ready", isReady)
	}
	events := &corev1.EventList{}
	if err := p.List(t.Context(), events, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		if strings.Contains(e.Message, "hunter2") {
			t.Errorf("an event tells %q", e.Message)
		}
	}
}
