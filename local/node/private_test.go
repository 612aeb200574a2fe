package node_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A registry that wants a login, of the pod's secret or of its service account's.
func testPullSecrets(t *testing.T, c *cluster) {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.registry})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, password, _ := q.BasicAuth(); user != "user" || password != "password" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, q)
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	auths := map[string]any{host: map[string]string{"username": "user", "password": "password"}}
	old, _ := json.Marshal(auths)
	whole, _ := json.Marshal(map[string]any{"auths": auths})
	for _, x := range []v1.Secret{
		{ObjectMeta: metav1.ObjectMeta{Name: "login"}, Type: v1.SecretTypeDockerConfigJson, Data: map[string][]byte{v1.DockerConfigJsonKey: whole}},
		{ObjectMeta: metav1.ObjectMeta{Name: "oldlogin"}, Type: v1.SecretTypeDockercfg, Data: map[string][]byte{v1.DockerConfigKey: old}},
	} {
		if _, err := c.client.CoreV1().Secrets("default").Create(t.Context(), &x, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	account := &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "puller"}, ImagePullSecrets: []v1.LocalObjectReference{named("oldlogin")}}
	if _, err := c.client.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	image := func(p *v1.Pod) {
		p.Spec.Containers[0].Image = host + "/program:v1"
		p.Spec.Containers[0].ImagePullPolicy = v1.PullAlways
	}
	c.pod("nologin", func(p *v1.Pod) { image(p); p.Spec.ImagePullSecrets = []v1.LocalObjectReference{named("missing")} })
	c.when("nologin", "refused", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		return s.State.Waiting != nil && s.State.Waiting.Reason == "ImagePullBackOff"
	})
	c.until("event", func() bool {
		l, err := c.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=nologin,reason=FailedToRetrieveImagePullSecret"})
		return err == nil && len(l.Items) > 0 && strings.Contains(l.Items[0].Message, "missing")
	})
	c.pod("login", func(p *v1.Pod) { image(p); p.Spec.ImagePullSecrets = []v1.LocalObjectReference{named("login")} })
	c.pod("account", func(p *v1.Pod) { image(p); p.Spec.ServiceAccountName = "puller" })
	c.when("login", "ready", ready)
	c.when("account", "ready", ready)
	for _, n := range []string{"nologin", "login", "account"} {
		c.delete(n)
	}
}
