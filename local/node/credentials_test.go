package node

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "k8s.io/api/core/v1"
)

func TestLogins(t *testing.T) {
	const plain = `{"https://index.docker.io/v1/":{"username":"hub","password":"p"},"example.com":{"username":"host","password":"p"},"example.com/team":{"auth":"dGVhbTpw"}}`
	for key, text := range map[string]string{v1.DockerConfigKey: plain, v1.DockerConfigJsonKey: `{"auths":` + plain + `}`} {
		l, err := loginsOf(&v1.Secret{Data: map[string][]byte{key: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		for image, want := range map[string]string{"python:3-alpine": "hub", "example.com/x": "host", "example.com/team/x": "team", "example.com/teams/x": "host", "other.com/x": "", "notexample.com/x": ""} {
			r, err := name.ParseReference(image)
			if err != nil {
				t.Fatal(err)
			}
			a, err := l.Resolve(r.Context())
			if err != nil {
				t.Fatal(err)
			}
			var c *authn.AuthConfig
			if c, err = a.Authorization(); err != nil || c.Username != want {
				t.Errorf("%s: %s logs in as %q, want %q (%v)", key, image, c.Username, want, err)
			}
		}
	}
	for _, s := range []v1.Secret{{}, {Data: map[string][]byte{v1.DockerConfigKey: []byte("verysecret")}}, {Data: map[string][]byte{v1.DockerConfigJsonKey: []byte(`{"auths": "verysecret"}`)}}} {
		if _, err := loginsOf(&s); err == nil || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("error %v", err)
		}
	}
}
