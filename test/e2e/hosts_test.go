package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/test/e2e/platform"
)

// mapping is a DomainMapping to a Service of the namespace, not yet created.
func mapping(n *platform.Namespace, host, service string) *v1beta1.DomainMapping {
	m := &v1beta1.DomainMapping{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: host}}
	m.Spec.Ref = v1beta1.KReference{Kind: "Service", APIVersion: "serving.knative.dev/v1", Name: service}
	return m
}

// awaitMapping waits until holds returns nil for a DomainMapping.
func awaitMapping(n *platform.Namespace, host string, holds func(*v1beta1.DomainMapping) error) *v1beta1.DomainMapping {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), platform.Deadline)
	defer cancel()
	all, err := platform.Await(ctx, n.Platform, &v1beta1.DomainMappingList{}, func(all []*v1beta1.DomainMapping) error {
		if len(all) == 0 {
			return errors.New("it does not exist")
		}
		return holds(all[0])
	}, client.InNamespace(n.In), client.MatchingFields{"metadata.name": host})
	if err != nil {
		n.Fatalf("DomainMapping %s/%s: %v", n.In, host, err)
	}
	return all[0]
}

func mappingReady(m *v1beta1.DomainMapping) error {
	return platform.Ready(m.Generation, m.Status.Status)
}

func create(n *platform.Namespace, o client.Object) {
	n.Helper()
	if err := n.Create(n.Context(), o); err != nil {
		n.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

func TestDomainMapping(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("web", says("one"))
	n.Deploy("other", says("other"))
	host := "www." + n.In + ".example.org"
	create(n, mapping(n, host, "web"))
	m := awaitMapping(n, host, mappingReady)
	if !strings.HasPrefix(m.Status.URL, "http://"+host) || m.Status.Address == nil || m.Status.Address.URL != m.Status.URL {
		t.Errorf("url %q, address %v", m.Status.URL, m.Status.Address)
	}
	// From zero, with the Host that the client asked for, and not for callers inside.
	if a := n.MustFetch(t, "http://"+host+"/"); a.Body != "web-00001 one\n" {
		t.Errorf("the mapped host answers %s", a)
	}
	if a := n.MustFetch(t, "http://"+strings.ToUpper(host)+"/"); a.Body != "web-00001 one\n" {
		t.Errorf("in upper case it answers %s", a)
	}
	if a, err := n.Fetch(t.Context(), platform.Internal, "http://"+host+"/"); err != nil || a.Status != http.StatusNotFound {
		t.Errorf("inside it answers %s, %v", a, err)
	}

	// It follows the Service's traffic, and another reference.
	n.Change("web", says("two"))
	n.AwaitReady("web")
	n.AwaitAnswer(t, platform.External, "http://"+host+"/", func(a platform.Answer) bool { return a.Body == "web-00002 two\n" })
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"ref":{"name":"other"}}}`))
	if err := n.Patch(t.Context(), m, patch); err != nil {
		t.Fatal(err)
	}
	n.AwaitAnswer(t, platform.External, "http://"+host+"/", func(a platform.Answer) bool { return a.Body == "other-00001 other\n" })

	// Another namespace wants the host, and is told who has it.
	second := n.Platform.Namespace(t)
	create(second, mapping(second, host, "web"))
	awaitMapping(second, host, func(m *v1beta1.DomainMapping) error {
		c := m.Status.Conditions.Get(v1beta1.DomainClaimed)
		if c == nil || c.Reason != v1beta1.ReasonDomainAlreadyClaimed || !strings.Contains(c.Message, "to namespace "+n.In) {
			return fmt.Errorf("conditions: %s", platform.Describe(m.Status.Conditions))
		}
		return nil
	})
	// What it may not be called is refused with the field.
	for name, want := range map[string]string{
		"web.default.localhost":        `metadata.name: Invalid value: "web.default.localhost": has the form of the hosts`,
		"web.other.svc.cluster.local":  "metadata.name: Invalid value",
		"web":                          "metadata.name: Invalid value",
		"web.other.svc.cluster.local.": "metadata.name: Invalid value",
	} {
		if err := n.Create(t.Context(), mapping(n, name, "web")); err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "a lowercase RFC 1123") {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}

	// It goes, and nothing is left but the Service.
	if err := n.Delete(t.Context(), mapping(second, host, "web")); err != nil {
		t.Fatal(err)
	}
	if err := n.Delete(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	n.AwaitAnswer(t, platform.External, "http://"+host+"/", func(a platform.Answer) bool { return a.Status == http.StatusNotFound })
	ctx, cancel := context.WithTimeout(t.Context(), platform.Deadline)
	defer cancel()
	if _, err := platform.Await(ctx, n.Platform, &v1alpha1.ClusterDomainClaimList{}, func(all []*v1alpha1.ClusterDomainClaim) error {
		if len(all) > 0 {
			return errors.New("the claim is left")
		}
		return nil
	}, client.MatchingFields{"metadata.name": host}); err != nil {
		t.Error(err)
	}
}

// certificate makes one for a host, signed by itself.
func certificate(t *testing.T, host string, serial int64) map[string][]byte {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}

func TestDomainMappingTLS(t *testing.T) {
	n := begin(t)
	n.Deploy("web", says("one"))
	host := "secure." + n.In + ".example.org"
	m := mapping(n, host, "web")
	m.Annotations = map[string]string{serving.HTTPProtocolAnnotation: "Redirected"}
	m.Spec.TLS = &v1beta1.SecretTLS{SecretName: "cert"}
	create(n, m)
	awaitMapping(n, host, func(m *v1beta1.DomainMapping) error {
		c := m.Status.Conditions.Get(v1beta1.CertificateProvisioned)
		if !c.IsFalse() || !strings.Contains(c.Message, "secret "+n.In+"/cert does not exist") || !m.Status.Conditions.Get(v1beta1.IngressReady).IsTrue() {
			return fmt.Errorf("conditions: %s", platform.Describe(m.Status.Conditions))
		}
		return nil
	})
	if a := n.MustFetch(t, "http://"+host+"/"); a.Body != "web-00001 one\n" {
		t.Errorf("without its certificate it answers %s", a)
	}

	first := certificate(t, host, 1)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "cert"}, Type: corev1.SecretTypeTLS, Data: first}
	create(n, secret)
	ready := awaitMapping(n, host, func(m *v1beta1.DomainMapping) error {
		if !strings.HasPrefix(m.Status.URL, "https://"+host) {
			return fmt.Errorf("the URL is %s", m.Status.URL)
		}
		return mappingReady(m)
	})
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(first[corev1.TLSCertKey])
	dial := n.Dial(platform.Secure)
	for _, h2 := range []bool{true, false} {
		c := &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: trust}, ForceAttemptHTTP2: h2}}
		response, err := c.Get("https://" + host + "/")
		if err != nil || response.StatusCode != http.StatusOK || (response.ProtoMajor == 2) != h2 {
			t.Fatalf("over TLS: %+v, %v", response, err)
		}
		response.Body.Close()
		c.CloseIdleConnections()
	}
	// http is sent to https, at the port where that is.
	if a, err := n.Fetch(t.Context(), platform.External, "http://"+host+"/path?q=1"); err != nil || a.Status != http.StatusMovedPermanently ||
		a.Header.Get("Location") != ready.Status.URL+"/path?q=1" {
		t.Errorf("http answers %s %q, %v", a, a.Header.Get("Location"), err)
	}

	renewed(t, n, host, trust, "web-00001 one\n", func() int64 {
		secret.Data = certificate(t, host, 2)
		if err := n.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		return 2
	})
	out, _, err := n.Command(t.Context(), "", "kubectl", "get", "dm,events", "-n", n.In, "-o", "yaml")
	if err != nil || strings.Contains(out, "PRIVATE KEY") {
		t.Errorf("objects hold a private key, or could not be read: %v", err)
	}
}

// renewed holds a connection to a host while renew gives it a certificate with another serial number, which it returns: the
// connection goes on, and new ones are shown the new certificate.
func renewed(t *testing.T, n *platform.Namespace, host string, trust *x509.CertPool, body string, renew func() int64) {
	t.Helper()
	var connections atomic.Int64
	dial := n.Dial(platform.Secure)
	counted := func(ctx context.Context, network, address string) (net.Conn, error) {
		connections.Add(1)
		return dial(ctx, network, address)
	}
	held := &http.Client{Transport: &http.Transport{DialContext: counted, TLSClientConfig: &tls.Config{RootCAs: trust}}}
	defer held.CloseIdleConnections()
	use := func() {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/", nil)
		if a, err := platform.Call(held, r); err != nil || a.Body != body {
			t.Fatalf("over the held connection: %s, %v", a, err)
		}
	}
	use()
	serial := renew()
	platform.Until(t, "the renewed certificate is shown", func() error {
		use()
		shown, err := shownTo(t.Context(), n, host)
		if err == nil && shown.SerialNumber.Int64() != serial {
			err = fmt.Errorf("number %d is shown", shown.SerialNumber.Int64())
		}
		return err
	})
	use()
	if c := connections.Load(); c != 1 {
		t.Errorf("%d connections over the renewal, want 1", c)
	}
}

// shownTo is the certificate that a new connection to a host is shown, whoever issued it.
func shownTo(ctx context.Context, n *platform.Namespace, host string) (*x509.Certificate, error) {
	conn, err := n.Dial(platform.Secure)(ctx, "tcp", "")
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	defer secure.Close()
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secure.ConnectionState().PeerCertificates[0], nil
}
