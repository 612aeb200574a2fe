package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestRuntimeContract: what a container is promised to see.
func TestRuntimeContract(t *testing.T) {
	n := begin(t)
	n.Deploy("seen", func(s *v1.Service) {
		c := &s.Spec.Template.Spec.Containers[0]
		c.Env = []corev1.EnvVar{{Name: "OWN", Value: "$(K_REVISION) of $(K_SERVICE)"}}
		c.WorkingDir = "/tmp"
	})
	var given struct {
		Env             map[string]string
		Dir, Stdin, Tmp string
	}
	answer := n.MustFetch(t, n.URL("seen", "/contract"))
	if err := json.Unmarshal([]byte(answer.Body), &given); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	pods := n.AwaitReadyPods("seen", 1)
	for name, want := range map[string]string{
		"K_SERVICE": "seen", "K_CONFIGURATION": "seen", "K_REVISION": "seen-00001", "OWN": "seen-00001 of seen",
	} {
		if given.Env[name] != want {
			t.Errorf("%s is %q, want %q", name, given.Env[name], want)
		}
	}
	if given.Env["PORT"] == "" {
		t.Error("PORT is not set")
	}
	for name := range given.Env {
		if strings.HasSuffix(name, "_SERVICE_HOST") && name != "KUBERNETES_SERVICE_HOST" {
			t.Errorf("%s is set: links to services are off", name)
		}
	}
	if given.Stdin != "EOF" || given.Tmp != "writable" || !strings.HasSuffix(given.Dir, "/tmp") {
		t.Errorf("standard input: %s; /tmp: %s; working directory: %s", given.Stdin, given.Tmp, given.Dir)
	}
	if links := pods[0].Spec.EnableServiceLinks; links == nil || *links {
		t.Error("enableServiceLinks is not false")
	}

	for l, url := range map[platform.Listener]string{
		platform.External: n.URL("seen", "/headers"), platform.Internal: n.InternalURL("seen", "/headers"),
	} {
		answer, err := n.Fetch(t.Context(), l, url)
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("%s: %s %v", url, answer, err)
		}
		have, err := textproto.NewReader(bufio.NewReader(strings.NewReader(answer.Body + "\r\n"))).ReadMIMEHeader()
		if err != nil {
			t.Fatalf("%v: %s", err, answer.Body)
		}
		host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/headers")
		if have.Get("Host") != host {
			t.Errorf("%s listener: Host is %q, want %q", l, have.Get("Host"), host)
		}
		if have.Get("X-Forwarded-Proto") != "http" || have.Get("X-Forwarded-For") == "" || have.Get("X-Request-Id") == "" {
			t.Errorf("%s listener: X-Forwarded-Proto %q, X-Forwarded-For %q, X-Request-Id %q", l,
				have.Get("X-Forwarded-Proto"), have.Get("X-Forwarded-For"), have.Get("X-Request-Id"))
		}
		if f := have.Get("Forwarded"); !strings.Contains(f, "for=") || !strings.Contains(f, `host="`+host+`"`) || !strings.Contains(f, "proto=http") {
			t.Errorf("%s listener: Forwarded is %q", l, f)
		}
	}
}
