package credentials_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/controllers/credentials"
	"ebb.dev/ebb/test/kubetest"
	"ebb.dev/ebb/trust"
)

const namespace = "ebb-system"

// world is a kube-apiserver with a clock of its own.
type world struct {
	client.Client
	t   *testing.T
	now time.Time
}

func (w *world) keeper(leads bool) *credentials.Keeper {
	k := credentials.New(credentials.Options{
		Live: w.Client, Writer: w.Client, Namespace: namespace, Service: "ebb-controller",
		Mutating: admission.MutatingName, Validating: admission.ValidatingName,
		Now: func() time.Time { return w.now }, Logger: slog.New(slog.DiscardHandler),
	})
	k.Leading = func() bool { return leads }
	return k
}

func (w *world) secret(name string) *corev1.Secret {
	w.t.Helper()
	var s corev1.Secret
	if err := w.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &s); err != nil {
		w.t.Fatal(err)
	}
	return &s
}

func (w *world) versions() map[string]string {
	w.t.Helper()
	versions := map[string]string{}
	for _, name := range []string{credentials.AuthoritySecret, credentials.ActivatorSecret, credentials.GatewaySecret, credentials.ControllerSecret, credentials.WebhookSecret, credentials.EventingSecret, credentials.NATSSecret} {
		versions[name] = w.secret(name).ResourceVersion
	}
	return versions
}

func serialOf(t *testing.T, s trust.Source) string {
	t.Helper()
	m, err := s.Material()
	if err != nil {
		t.Fatal(err)
	}
	return m.Certificate.Leaf.SerialNumber.String()
}

// TestKeeper: replicas that start at once agree; the leader renews what is due and nothing else, and the others have it;
// what is deleted or spoiled is made again; admission's bundle is kept current, but for configurations of others.
func TestKeeper(t *testing.T) {
	config := kubetest.Start(t)
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Client: c, t: t, now: time.Now()}
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	keepers := []*credentials.Keeper{w.keeper(true), w.keeper(false), w.keeper(false)}
	leader, standby := keepers[0], keepers[1]
	var all sync.WaitGroup
	for _, k := range keepers {
		all.Go(func() {
			if err := k.Prepare(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	keep := func() {
		t.Helper()
		for _, k := range keepers {
			if err := k.Keep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, k := range keepers {
			if serialOf(t, &k.Controller) != serialOf(t, &leader.Controller) || serialOf(t, &k.Webhook) != serialOf(t, &leader.Webhook) {
				t.Error("the replicas have different certificates")
			}
		}
	}
	keep()
	first := w.versions()
	w.now = w.now.Add(19 * 24 * time.Hour)
	keep()
	if now := w.versions(); !equal(now, first) {
		t.Errorf("secrets were written without a reason: %v, %v", first, now)
	}

	// Admission.
	for _, target := range []admission.Target{{Namespace: namespace, Service: "ebb-controller", Port: 443}} {
		mutating, validating := admission.Configurations(target)
		for _, o := range []client.Object{mutating, validating} {
			if err := c.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	bundle := func() []byte {
		t.Helper()
		var m admissionv1.MutatingWebhookConfiguration
		var v admissionv1.ValidatingWebhookConfiguration
		if err := c.Get(t.Context(), client.ObjectKey{Name: admission.MutatingName}, &m); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), client.ObjectKey{Name: admission.ValidatingName}, &v); err != nil {
			t.Fatal(err)
		}
		b := m.Webhooks[0].ClientConfig.CABundle
		for _, other := range v.Webhooks {
			if !bytes.Equal(other.ClientConfig.CABundle, b) {
				t.Errorf("%s has another bundle", other.Name)
			}
		}
		return b
	}
	if err := standby.Keep(t.Context()); err != nil || len(bundle()) != 0 {
		t.Errorf("a replica that does not lead has written a bundle: %v", err)
	}
	keep()
	admits := func() {
		t.Helper()
		m, err := leader.Webhook.Material()
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle())
		if _, err := m.Certificate.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "ebb-controller." + namespace + ".svc", CurrentTime: w.now}); err != nil {
			t.Errorf("the kube-apiserver would not believe admission: %v", err)
		}
	}
	admits()

	// Renewal.
	w.now = w.now.Add(2 * 24 * time.Hour)
	if err := standby.Keep(t.Context()); err != nil || !equal(w.versions(), first) {
		t.Errorf("a replica that does not lead has renewed something: %v", err)
	}
	keep()
	for name, version := range w.versions() {
		if renewed := version != first[name]; renewed != (name != credentials.AuthoritySecret) {
			t.Errorf("%s after 21 days: renewed %v", name, renewed)
		}
	}
	admits()

	// Another authority is believed before it signs, and the old one after that for as long as what it signed lives.
	for _, step := range []struct {
		after time.Duration
		n     int
	}{{270 * 24 * time.Hour, 1}, {20 * 24 * time.Hour, 2}, {20 * 24 * time.Hour, 2}, {20 * 24 * time.Hour, 1}} {
		w.now = w.now.Add(step.after)
		keep()
		admits()
		for _, name := range []string{credentials.ActivatorSecret, credentials.GatewaySecret} {
			if n := count(w.secret(name).Data["ca.crt"]); n != step.n {
				t.Errorf("%s: %d authorities are believed, want %d", name, n, step.n)
			}
		}
	}

	// What is lost or spoiled.
	before := w.versions()
	if err := c.Delete(t.Context(), w.secret(credentials.GatewaySecret)); err != nil {
		t.Fatal(err)
	}
	spoiled := w.secret(credentials.ActivatorSecret)
	spoiled.Data["tls.crt"] = []byte("nothing")
	if err := c.Update(t.Context(), spoiled); err != nil {
		t.Fatal(err)
	}
	keep()
	for name, version := range w.versions() {
		if touched := version != before[name]; touched != (name == credentials.GatewaySecret || name == credentials.ActivatorSecret) {
			t.Errorf("%s after others were lost: written %v", name, touched)
		}
	}
	authority := w.secret(credentials.AuthoritySecret)
	authority.Data["tls.key"] = []byte("nothing")
	if err := c.Update(t.Context(), authority); err != nil {
		t.Fatal(err)
	}
	if err := leader.Keep(t.Context()); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("an authority without its key: %v", err)
	}
	if err := c.Delete(t.Context(), authority); err != nil {
		t.Fatal(err)
	}
	keep()
	admits()
	m, err := leader.Controller.Material()
	if err != nil {
		t.Fatal(err)
	}
	gateway := w.secret(credentials.GatewaySecret)
	if own, err := trust.Parse(gateway.Data["tls.crt"], gateway.Data["tls.key"], gateway.Data["ca.crt"]); err != nil {
		t.Error(err)
	} else if _, err := own.Certificate.Leaf.Verify(x509.VerifyOptions{Roots: m.Authorities, CurrentTime: w.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("with another authority the gateway's certificate was left: %v", err)
	}
}

func equal(a, b map[string]string) bool {
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return len(a) == len(b)
}

func count(bundle []byte) (n int) {
	for {
		var b *pem.Block
		if b, bundle = pem.Decode(bundle); b == nil {
			return n
		}
		n++
	}
}
