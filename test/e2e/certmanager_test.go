package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/test/e2e/platform"
)

// certManager plays cert-manager, which cannot run here: its kind is the public one, as far as it matters, and each
// Certificate gets a Secret by an authority of the test's own and the conditions that cert-manager writes.
type certManager struct {
	client.WithWatch
	trust *x509.CertPool

	ca  *x509.Certificate
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	serial int64
}

var certificates = schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "CertificateList"}

func newCertManager(t *testing.T, n *platform.Namespace) *certManager {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.NewWithWatch(n.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	m := &certManager{WithWatch: c, trust: x509.NewCertPool()}
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	m.ca = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the test's authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, m.ca, m.ca, &m.key.PublicKey, m.key)
	if err != nil {
		t.Fatal(err)
	}
	if m.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	m.trust.AddCert(m.ca)
	t.Cleanup(func() { m.uninstall(t) })
	return m
}

// install makes the kind, and uninstall takes it away with all Certificates.
func (m *certManager) install(t *testing.T) {
	t.Helper()
	kind := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "certificates.cert-manager.io"}, Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: certificates.Group, Scope: apiextensionsv1.NamespaceScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: "Certificate", ListKind: certificates.Kind, Plural: "certificates", Singular: "certificate"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: certificates.Version, Served: true, Storage: true,
			Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{
				"spec": {Type: "object", Required: []string{"issuerRef", "secretName"}, Properties: map[string]apiextensionsv1.JSONSchemaProps{
					"dnsNames":   {Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}}},
					"secretName": {Type: "string"},
					"issuerRef": {Type: "object", Required: []string{"name"}, Properties: map[string]apiextensionsv1.JSONSchemaProps{
						"name": {Type: "string"}, "kind": {Type: "string"}, "group": {Type: "string"}}},
				}},
				"status": {Type: "object", XPreserveUnknownFields: new(true)},
			}}},
		}},
	}}
	if err := m.Create(t.Context(), kind); err != nil {
		t.Fatal(err)
	}
}

func (m *certManager) uninstall(t *testing.T) {
	t.Helper()
	kind := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "certificates.cert-manager.io"}}
	if err := m.Delete(context.Background(), kind); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	platform.Until(t, "the kind Certificate goes", func() error {
		if err := m.Get(context.Background(), client.ObjectKeyFromObject(kind), kind); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

// run issues what is asked for until stop is called.
func (m *certManager) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil { // the kind may come and go
			if err := m.follow(ctx); err != nil && ctx.Err() == nil {
				select {
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(stop)
	return stop
}

func (m *certManager) follow(ctx context.Context) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(certificates)
	events, err := m.Watch(ctx, list)
	if err != nil {
		return err
	}
	defer events.Stop()
	for e := range events.ResultChan() {
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return apierrors.FromObject(e.Object)
		}
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		if len(conditions) > 0 || u.GetDeletionTimestamp() != nil {
			continue
		}
		hosts, _, _ := unstructured.NestedStringSlice(u.Object, "spec", "dnsNames")
		secret, _, _ := unstructured.NestedString(u.Object, "spec", "secretName")
		if err := m.issue(ctx, u.GetNamespace(), secret, hosts); err != nil {
			return err
		}
		ready := map[string]any{"type": "Ready", "status": "True", "reason": "Ready", "message": "Certificate is up to date and has not expired",
			"observedGeneration": u.GetGeneration(), "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)}
		if err := unstructured.SetNestedSlice(u.Object, []any{ready}, "status", "conditions"); err != nil {
			return err
		}
		if err := m.Status().Update(ctx, u); err != nil {
			return err // a new watch shows it again
		}
	}
	return nil
}

// issue writes a new key and certificate into a Secret.
func (m *certManager) issue(ctx context.Context, namespace, secret string, hosts []string) error {
	m.mu.Lock()
	m.serial++
	serial := m.serial
	m.mu.Unlock()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, m.ca, &private.PublicKey, m.key)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: secret}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
		"ca.crt":                pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.ca.Raw}),
	}}
	if err := m.Create(ctx, s); !apierrors.IsAlreadyExists(err) {
		return err
	}
	return m.Update(ctx, s)
}

// renew is issue of a Secret that is there; it returns the new serial number.
func (m *certManager) renew(t *testing.T, namespace, secret string, hosts ...string) int64 {
	t.Helper()
	if err := m.issue(t.Context(), namespace, secret, hosts); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serial
}

// certificate is a Certificate as it is stored.
func (m *certManager) certificate(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: certificates.Group, Version: certificates.Version, Kind: "Certificate"})
	if err := m.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, u); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	return u, nil
}
