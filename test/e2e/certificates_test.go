package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/test/e2e/platform"
)

// routeSays says why CertificateProvisioned of a Service's Route is not as wanted.
func routeSays(ctx context.Context, n *platform.Namespace, service string, status corev1.ConditionStatus, reason, words string) error {
	var r v1.Route
	if err := n.WithWatch.Get(ctx, key(n, service), &r); err != nil {
		return err
	}
	c := r.Status.Conditions.Get(v1.RouteCertificateProvisioned)
	if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, words) {
		return fmt.Errorf("CertificateProvisioned should be %s %s with %q: %s", status, reason, words, platform.Describe(r.Status.Conditions))
	}
	return nil
}

// TestCertificatesFromCertManager: external-domain-tls from before cert-manager is there to after it is gone. It changes
// settings of the whole platform: nothing runs beside it.
func TestCertificatesFromCertManager(t *testing.T) {
	n := shared.Platform(t).Namespace(t)
	m := newCertManager(t, n)
	n.Deploy("web", func(s *v1.Service) {
		says("one")(s)
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
	})
	n.DeployAtZero("plain", func(s *v1.Service) {
		s.Annotations = map[string]string{serving.DisableExternalDomainTLSAnnotation: "true"}
	})
	at := func(service string) string { return service + "." + n.In + ".localhost" }
	awaitURL := func(service, scheme string) *v1.Service {
		t.Helper()
		return n.AwaitService(service, func(s *v1.Service) error {
			if !strings.HasPrefix(s.Status.URL, scheme+"://"+at(service)) {
				return fmt.Errorf("its URL is %s", s.Status.URL)
			}
			return platform.Ready(s.Generation, s.Status.Status)
		})
	}
	// over calls a host with TLS, by HTTP/2 too, as a client that trusts the authority and nobody else.
	over := func(host, body string) {
		t.Helper()
		for _, h2 := range []bool{true, false} {
			c := &http.Client{Transport: &http.Transport{DialContext: n.Dial(platform.Secure), TLSClientConfig: &tls.Config{RootCAs: m.trust}, ForceAttemptHTTP2: h2}}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if a, err := platform.Call(c, r); err != nil || a.Body != body {
				t.Errorf("https://%s answers %s, %v, want %q", host, a, err, body)
			}
			c.CloseIdleConnections()
		}
	}
	isRedirected := func(ctx context.Context, set bool) error {
		want := map[bool]int{true: http.StatusMovedPermanently, false: http.StatusOK}[set]
		if a, err := n.Fetch(ctx, platform.External, n.URL("web", "/")); err != nil || a.Status != want {
			return fmt.Errorf("http answers %s, %w, want %d", a, err, want)
		}
		return nil
	}

	// Without cert-manager: the condition says so, and http goes on.
	off := n.Configure(t, settings.ConfigNetwork, map[string]string{"external-domain-tls": "Enabled"}, func(ctx context.Context, set bool) error {
		if !set {
			return routeSays(ctx, n, "web", corev1.ConditionTrue, v1.ReasonTLSNotEnabled, "not enabled")
		}
		return routeSays(ctx, n, "web", corev1.ConditionTrue, v1.ReasonHTTPDowngrade, "cert-manager is not installed")
	})
	awaitURL("web", "http")
	strict := n.Configure(t, settings.ConfigNetwork, map[string]string{"http-protocol": "Redirected"}, func(ctx context.Context, set bool) error {
		if !set {
			return routeSays(ctx, n, "web", corev1.ConditionTrue, v1.ReasonHTTPDowngrade, "cert-manager is not installed")
		}
		return routeSays(ctx, n, "web", corev1.ConditionFalse, v1.ReasonCertificateProvisionFailed, "cert-manager is not installed")
	})
	n.MustFetch(t, n.URL("web", "/"))
	strict()

	// Its kind comes, and then cert-manager itself.
	m.install(t)
	platform.Until(t, "the Route waits for its Certificate", func() error {
		return routeSays(t.Context(), n, "web", corev1.ConditionTrue, v1.ReasonHTTPDowngrade, "cert-manager has not looked at it yet")
	})
	m.run(t)
	secure := awaitURL("web", "https").Status.URL
	over(at("web"), "web-00001 one\n")
	n.MustFetch(t, n.URL("web", "/")) // http is not redirected unless that is wanted
	var web v1.Route
	if err := n.WithWatch.Get(t.Context(), key(n, "web"), &web); err != nil {
		t.Fatal(err)
	}
	own := "route-" + string(web.UID)
	if err := routeSays(t.Context(), n, "plain", corev1.ConditionTrue, v1.ReasonTLSNotEnabled, ""); err != nil {
		t.Errorf("the Service that wants none: %v", err)
	}
	awaitURL("plain", "http")

	// A tag and a host of its own get theirs.
	n.Change("web", route(percent("web-00001", 100, "next")))
	n.AwaitService("web", func(s *v1.Service) error {
		if len(s.Status.Traffic) != 1 || !strings.HasPrefix(s.Status.Traffic[0].URL, "https://"+at("next-web")) {
			return fmt.Errorf("its traffic is %+v", s.Status.Traffic)
		}
		return platform.Ready(s.Generation, s.Status.Status)
	})
	over(at("next-web"), "web-00001 one\n")
	mapped := "www." + n.In + ".example.org"
	create(n, mapping(n, mapped, "web"))
	awaitMapping(n, mapped, func(m *v1beta1.DomainMapping) error {
		if !strings.HasPrefix(m.Status.URL, "https://"+mapped) {
			return fmt.Errorf("its URL is %s", m.Status.URL)
		}
		return mappingReady(m)
	})
	over(mapped, "web-00001 one\n")

	redirected := n.Configure(t, settings.ConfigNetwork, map[string]string{"http-protocol": "Redirected"}, isRedirected)
	for from, to := range map[string]string{
		n.URL("web", "/path?q=1"):       secure + "/path?q=1",
		n.URL("next-web", "/"):          strings.Replace(secure, at("web"), at("next-web"), 1) + "/",
		"http://" + mapped + "/a%20b?c": strings.Replace(secure, at("web"), mapped, 1) + "/a%20b?c",
	} {
		n.AwaitAnswer(t, platform.External, from, func(a platform.Answer) bool {
			return a.Status == http.StatusMovedPermanently && a.Header.Get("Location") == to
		})
	}
	n.MustFetch(t, n.URL("plain", "/")) // it has no https to go to
	redirected()

	renewed(t, n, at("web"), m.trust, "web-00001 one\n", func() int64 { return m.renew(t, n.In, own, at("web")) })

	// One certificate for all hosts of a namespace.
	label := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"wildcard":"`+n.In+`"}}}`))
	if err := n.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.In}}, label); err != nil {
		t.Fatal(err)
	}
	each := n.Configure(t, settings.ConfigNetwork, map[string]string{"namespace-wildcard-cert-selector": "matchLabels: {wildcard: " + n.In + "}"}, func(ctx context.Context, set bool) error {
		c, err := shownTo(ctx, n, at("web"))
		if err == nil && (c.DNSNames[0] == "*."+n.In+".localhost") != set {
			err = fmt.Errorf("the certificate shown is for %v", c.DNSNames)
		}
		return err
	})
	over(at("web"), "web-00001 one\n")
	over(at("next-web"), "web-00001 one\n")
	wildcard, err := m.certificate(t.Context(), n.In, "wildcard."+n.In+".localhost")
	if err != nil {
		t.Fatal(err)
	}
	if hosts, _, _ := unstructured.NestedStringSlice(wildcard.Object, "spec", "dnsNames"); len(hosts) != 1 || hosts[0] != "*."+n.In+".localhost" {
		t.Errorf("the wildcard is for %v", hosts)
	}
	each()

	// cert-manager is taken away and comes back: what has a certificate keeps it, and what has none waits for it.
	m.uninstall(t)
	platform.Until(t, "the Route says that it is gone", func() error {
		return routeSays(t.Context(), n, "web", corev1.ConditionTrue, v1.ReasonHTTPDowngrade, "cert-manager is not installed")
	})
	awaitURL("web", "https")
	over(at("web"), "web-00001 one\n")
	n.DeployAtZero("late", says("late"))
	if err := routeSays(t.Context(), n, "late", corev1.ConditionTrue, v1.ReasonHTTPDowngrade, "cert-manager is not installed"); err != nil {
		t.Error(err)
	}
	m.install(t)
	awaitURL("late", "https")
	over(at("late"), "late-00001 late\n")
	awaitURL("web", "https")

	off()
	awaitURL("web", "http")
	n.MustFetch(t, n.URL("web", "/"))
}
