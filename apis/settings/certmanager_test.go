package settings

import (
	"strings"
	"testing"
)

func TestCertManager(t *testing.T) {
	for text, want := range map[string]IssuerRef{
		"":                                   {Kind: "ClusterIssuer", Name: "knative-selfsigned-issuer"},
		"kind: Issuer\nname: a\ngroup: g.io": {Kind: "Issuer", Name: "a", Group: "g.io"},
		"name: a":                            {Kind: "ClusterIssuer", Name: "a"},
	} {
		s, err := Default().With(ConfigCertManager, map[string]string{"issuerRef": text})
		if err != nil || s.CertManager.Issuer != want {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
	for text, want := range map[string]string{
		"[":                 "config-certmanager/issuerRef: not a reference",
		"who: a":            "config-certmanager/issuerRef: not a reference",
		"name: A B":         "config-certmanager/issuerRef: name \"A B\"",
		"{name: a, kind: }": "",
	} {
		_, err := Default().With(ConfigCertManager, map[string]string{"issuerRef": text})
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestRedirectsAndURLs(t *testing.T) {
	s, err := Default().With(ConfigNetwork, map[string]string{"http-protocol": "Redirected", "external-port": "8080", "external-https-port": "8443"})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Redirects(nil) || s.Redirects(map[string]string{"networking.knative.dev/httpOption": "enabled"}) || Default().Redirects(nil) {
		t.Error("who is sent to https")
	}
	if !Default().Redirects(map[string]string{"networking.knative.dev/httpProtocol": "Redirected"}) {
		t.Error("an older spelling")
	}
	if a, b := s.SecureURL("a.test"), s.PlainURL("a.test"); a != "https://a.test:8443" || b != "http://a.test:8080" {
		t.Errorf("%s %s", a, b)
	}
	if a := Default().SecureURL("a.test"); a != "https://a.test" {
		t.Error(a)
	}
	if _, err := Default().With(ConfigNetwork, map[string]string{"external-https-port": "http"}); err == nil || !strings.Contains(err.Error(), "config-network/external-https-port") {
		t.Errorf("a port: %v", err)
	}
}

// TestRouteHost: which hosts have the form of a Route's.
func TestRouteHost(t *testing.T) {
	for _, c := range []struct{ template, host, namespace string }{
		{"{{.Name}}.{{.Namespace}}.{{.Domain}}", "a.b.example.com", "b"},
		{"{{.Name}}.{{.Namespace}}.{{.Domain}}", "next-a.b.example.com", "b"},
		{"{{.Name}}.{{.Namespace}}.{{.Domain}}", "b.example.com", "-"},
		{"{{.Name}}.{{.Namespace}}.{{.Domain}}", "x.a.b.example.com", "-"},
		{"{{.Name}}.{{.Namespace}}.{{.Domain}}", "a.b.example.org", "-"},
		{"{{.Name}}-{{.Namespace}}.{{.Domain}}", "a-b.example.com", "b"},
		{"{{.Name}}-{{.Namespace}}.{{.Domain}}", "www.example.com", "-"},
		{"{{.Name}}.{{.Domain}}", "a.example.com", ""},
		{"{{.Name}}.{{index .Labels \"team\"}}.{{.Domain}}", "a.b.example.com", "-"},
	} {
		s, err := Default().With(ConfigDomain, map[string]string{"example.com": ""})
		if err == nil {
			s, err = s.With(ConfigNetwork, map[string]string{"domain-template": c.template})
		}
		if err != nil {
			t.Logf("%s: %v", c.template, err) // a template that needs labels is not admitted
			continue
		}
		namespace, is := s.RouteHost(c.host)
		if is == (c.namespace == "-") || is && namespace != c.namespace {
			t.Errorf("%s by %s: %q %v, want %q", c.host, c.template, namespace, is, c.namespace)
		}
	}
}
