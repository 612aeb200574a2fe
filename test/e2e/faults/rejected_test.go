package faults

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/test/e2e/platform"
)

// Envoy rejects a certificate whose key is too short, and nothing before it does: it shows with the object that it came from,
// everything else changes as ever, and a good one takes its place.
func TestRejectedConfiguration(t *testing.T) {
	w := newWorld(t)
	w.two(t, "web")
	load := w.rate(t, "web", "/", 100)
	w.await(t, load, 100)
	host := "short." + w.In + ".example.org"
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.In, Name: "cert"}, Type: corev1.SecretTypeTLS, Data: pair(t, host, short)}
	if err := w.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	m := &v1beta1.DomainMapping{ObjectMeta: metav1.ObjectMeta{Namespace: w.In, Name: host}}
	m.Spec.Ref = v1beta1.KReference{Kind: "Service", APIVersion: "serving.knative.dev/v1", Name: "web"}
	m.Spec.TLS = &v1beta1.SecretTLS{SecretName: "cert"}
	if err := w.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.Delete(context.Background(), m)
		_ = w.Delete(context.Background(), &v1alpha1.ClusterDomainClaim{ObjectMeta: metav1.ObjectMeta{Name: host}})
	})
	shown := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := w.Dial(platform.Secure)(ctx, "tcp", "")
		if err != nil {
			return err
		}
		defer conn.Close()
		return tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // whose it is does not matter
	}
	until(t, "the rejection shows in the DomainMapping", func() error {
		if shown() == nil { // the first one that asks is what makes the gateway load it
			t.Fatal("a client was shown a certificate with a key of 1024 bits: this Envoy does not reject it")
		}
		now := &v1beta1.DomainMapping{}
		if err := w.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(m), now); err != nil {
			return err
		}
		text := platform.Describe(now.Status.Conditions)
		if !strings.Contains(text, "2048") {
			return fmt.Errorf("conditions: %s", text)
		}
		return nil
	})
	for _, first := range []int{0, 100} {
		w.split(t, "web", first)
		w.AwaitReady("web")
		want := map[int]string{100: "web-00001", 0: "web-00002"}[first]
		for range 20 {
			if body, err := w.get(t.Context(), "web", "/"); err != nil || !strings.HasPrefix(body, want+" ") {
				t.Fatalf("beside a rejected certificate a split to %s answers %q, %v", want, body, err)
			}
		}
	}
	good, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret.Data = pair(t, host, good)
	if err := w.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	until(t, "the good certificate is shown", shown)
	load.stopClean(t)
}

// pair is a certificate for a host, signed by itself, and its key.
func pair(t *testing.T, host string, key crypto.Signer) map[string][]byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}
