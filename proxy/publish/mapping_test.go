package publish_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/proxy/xds"
)

// mapping makes a DomainMapping as its controller leaves it when its host is claimed.
func (w *world) mapping(host, to, secret string) *v1beta1.DomainMapping {
	w.t.Helper()
	m := &v1beta1.DomainMapping{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: host}}
	m.Spec.Ref = v1beta1.KReference{Kind: "Service", APIVersion: "serving.knative.dev/v1", Name: to}
	if secret != "" {
		m.Spec.TLS = &v1beta1.SecretTLS{SecretName: secret}
	}
	w.must(w.Create(w.t.Context(), m))
	w.claimed(m, true)
	return m
}

func (w *world) claimed(m *v1beta1.DomainMapping, claimed bool) {
	w.t.Helper()
	m.Status.Conditions.SetTrue(v1beta1.ReferenceResolved, time.Now())
	if claimed {
		m.Status.Conditions.SetTrue(v1beta1.DomainClaimed, time.Now())
	} else {
		m.Status.Conditions.SetFalse(v1beta1.DomainClaimed, "DomainAlreadyClaimed", "taken", time.Now())
	}
	w.must(w.Status().Update(w.t.Context(), m))
}

func (w *world) mapped(g *gateway, host string) {
	w.t.Helper()
	g.wait("mapping "+host+" is acknowledged", func() bool {
		connected, pending, rejected := w.publisher.MappingState(w.namespace, host)
		return connected == 1 && pending == 0 && len(rejected) == 0
	})
}

// scoped says whether the gateway has a host of an object, by the object's UID.
func scoped(g *gateway, uid, host string) bool {
	return slices.ContainsFunc(g.names(xds.ScopeType), func(scope string) bool {
		return strings.Contains(scope, uid) && strings.HasSuffix(scope, "/external/"+host)
	})
}

// routeAfter makes a Route that is younger than an object by the API server's whole seconds.
func (w *world) routeAfter(o client.Object, name string) *v1.Route {
	w.t.Helper()
	for {
		r := &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
		w.must(w.Create(w.t.Context(), r))
		if r.CreationTimestamp.After(o.GetCreationTimestamp().Time) {
			return r
		}
		w.must(w.Delete(w.t.Context(), r))
		<-time.After(50 * time.Millisecond)
	}
}

func testDomainMapping(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 0)
	one, two := w.revision("hello-00001"), w.revision("hello-00002")
	m := w.mapping("www.example.org", "hello", "") // before its target is there
	g := connect(t, w.publisher.Server())
	if _, pending, _ := w.publisher.MappingState(w.namespace, m.Name); pending == 0 {
		t.Error("a mapping without a target is acknowledged")
	}
	route := w.route("hello", target(one.Name, 100))
	g.wait("the mapped host", func() bool { return scoped(g, string(m.UID), m.Name) })
	w.mapped(g, m.Name)
	configuration := "mapping/" + w.namespace + "/www.example.org/" + string(m.UID)
	g.subscribe(xds.RouteType, configuration)
	g.wait("its configuration", func() bool { return slices.Contains(g.names(xds.RouteType), configuration) })
	leads := func() string { return string(g.resource(xds.RouteType, configuration)) }
	if !strings.Contains(leads(), cluster(one)) {
		t.Error("it does not lead to the first revision")
	}

	// It follows the traffic of its target, and its target itself.
	w.traffic(route, target(two.Name, 100))
	g.wait("the traffic is followed", func() bool {
		return strings.Contains(leads(), cluster(two)) && !strings.Contains(leads(), cluster(one))
	})
	w.route("other", target(one.Name, 100))
	w.must(w.Get(t.Context(), client.ObjectKeyFromObject(m), m))
	m.Spec.Ref.Name = "other"
	w.must(w.Update(t.Context(), m))
	g.wait("another target", func() bool { return strings.Contains(leads(), cluster(one)) })
	w.mapped(g, m.Name)

	// A Route that wants the host later does not get it, and is told who has it.
	route = w.routeAfter(m, "late")
	route.Status.URL = "http://www.example.org"
	route.Status.Traffic = []v1.TrafficTarget{target(two.Name, 100)}
	w.must(w.Status().Update(t.Context(), route))
	g.wait("the route says who has its host", func() bool {
		_, _, rejected := w.publisher.RouteState(w.namespace, "late")
		return len(rejected) == 1 && strings.Contains(rejected[0], "is served by DomainMapping "+w.namespace+"/www.example.org, which is older")
	})

	// Without its claim it has nothing, and the Route gets the host.
	w.must(w.Get(t.Context(), client.ObjectKeyFromObject(m), m))
	w.claimed(m, false)
	g.wait("the host is the route's", func() bool { return !scoped(g, string(m.UID), m.Name) && scoped(g, string(route.UID), m.Name) })
	w.must(w.Delete(t.Context(), m))
	w.must(w.Delete(t.Context(), route))
	g.wait("the host is nobody's", func() bool { return !scoped(g, "", m.Name) })
}

func pair(t *testing.T, hosts ...string) map[string][]byte {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}

func (w *world) secret(name string, kind corev1.SecretType, data map[string][]byte) *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, Type: kind, Data: data}
	w.must(w.Create(w.t.Context(), s))
	return s
}

func testCertificates(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, 0)
	one := w.revision("hello-00001")
	route := w.route("hello", target(one.Name, 100))
	m := w.mapping("www.example.org", "hello", "cert")
	g := connect(t, w.publisher.Server())
	g.subscribe(xds.SecretType, m.Name)
	says := func(what, secret, host string, served bool, problem string) {
		t.Helper()
		g.wait(what, func() bool {
			is, known, text := w.publisher.CertificateState(w.namespace, secret, host)
			return known && is == served && strings.Contains(text, problem) && (problem == "") == (text == "")
		})
	}
	says("the Secret is missing", "cert", m.Name, false, "secret "+w.namespace+"/cert does not exist: make it with")
	w.mapped(g, m.Name) // http goes on

	good := pair(t, m.Name)
	secret := w.secret("cert", corev1.SecretTypeTLS, good)
	says("the Secret is there", "cert", m.Name, true, "")
	has := func(host string, data map[string][]byte) func() bool {
		return func() bool {
			return strings.Contains(string(g.resource(xds.SecretType, host)), string(data["tls.crt"]))
		}
	}
	g.wait("the certificate", has(m.Name, good))

	// What is no certificate leaves the last good one in place, and says nothing of what it holds.
	bad := pair(t, m.Name)
	secret.Data = map[string][]byte{"tls.crt": good["tls.crt"], "tls.key": bad["tls.key"]}
	w.must(w.Update(t.Context(), secret))
	says("the key is another's", "cert", m.Name, true, "tls.key is not the private key")
	if _, _, text := w.publisher.CertificateState(w.namespace, "cert", m.Name); strings.Contains(text, "PRIVATE") {
		t.Errorf("the problem quotes the Secret: %s", text)
	}
	if !has(m.Name, good)() {
		t.Error("the last good certificate is gone")
	}
	renewed := pair(t, "*.example.org")
	secret.Data = renewed
	w.must(w.Update(t.Context(), secret))
	g.wait("the renewed certificate", has(m.Name, renewed))
	says("it is good again", "cert", m.Name, true, "")
	other := pair(t, "www.example.net")
	secret.Data = other
	w.must(w.Update(t.Context(), secret))
	says("it is for another host", "cert", m.Name, true, "the certificate is for www.example.net, not for www.example.org")

	// A Route's certificates are those that its status names, and a host may change hands with its certificate.
	noted, err := json.Marshal(map[string]string{"hello." + w.namespace + ".example.com": "route-cert", m.Name: "route-cert"})
	w.must(err)
	forRoute := pair(t, "hello."+w.namespace+".example.com", m.Name)
	w.secret("route-cert", corev1.SecretTypeTLS, forRoute)
	w.ready(g, "hello")
	asked, let := w.live.hold("route-cert")
	defer let()
	w.must(w.Get(t.Context(), client.ObjectKeyFromObject(route), route))
	route.Status.Annotations = map[string]string{serving.CertificatesAnnotation: string(noted)}
	w.must(w.Status().Update(t.Context(), route))
	<-asked
	if _, pending, _ := w.publisher.RouteState(w.namespace, "hello"); pending == 0 {
		t.Error("the route counts as acknowledged before its certificate is read")
	}
	let()
	w.ready(g, "hello")
	g.subscribe(xds.SecretType, "hello."+w.namespace+".example.com")
	g.wait("the route's certificate", has("hello."+w.namespace+".example.com", forRoute))
	if !has(m.Name, other)() {
		t.Error("a host of the mapping has the certificate of a route that does not serve it")
	}

	// Taken away, and of a type that is not one.
	w.must(w.Delete(t.Context(), secret))
	g.wait("no certificate", func() bool { return len(g.resource(xds.SecretType, m.Name)) == 0 })
	w.secret("opaque", corev1.SecretTypeOpaque, good)
	w.must(w.Get(t.Context(), client.ObjectKeyFromObject(m), m))
	m.Spec.TLS.SecretName = "opaque"
	w.must(w.Update(t.Context(), m))
	says("it is opaque", "opaque", m.Name, false, "is of type Opaque: type kubernetes.io/tls is needed")
	w.must(w.Delete(t.Context(), m))
	g.wait("nobody uses it", func() bool {
		_, known, _ := w.publisher.CertificateState(w.namespace, "opaque", m.Name)
		return !known
	})
}
