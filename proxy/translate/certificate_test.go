package translate_test

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/proxy/translate"
)

func tlsSecret(chain, key []byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cert"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": chain, "tls.key": key}}
}

func TestCertificateProblems(t *testing.T) {
	for want, secret := range map[string]*corev1.Secret{
		"secret default/cert: tls.crt is empty":                       tlsSecret(nil, []byte("x")),
		"secret default/cert: tls.key is empty":                       tlsSecret([]byte("x"), nil),
		"secret default/cert: tls.crt is longer than":                 tlsSecret(bytes.Repeat([]byte("x"), 1<<20), []byte("x")),
		"secret default/cert: tls.crt holds no PEM certificate":       tlsSecret([]byte("x"), []byte("x")),
		"secret default/cert is of type : type kubernetes.io/tls is ": {ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cert"}},
	} {
		if _, err := translate.Certificate(secret); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzCertificate: whatever a Secret holds, an error is short and quotes none of it.
func FuzzCertificate(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nsecretsecret\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("chainchain"), []byte("-----BEGIN secretsecret-----\n\n-----END secretsecret-----\n"))
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		_, err := translate.Certificate(tlsSecret(chain, key))
		if err == nil {
			return
		}
		if len(err.Error()) > 200 || len(key) > 40 && strings.Contains(err.Error(), string(key)) || strings.Contains(err.Error(), "secretsecret") {
			t.Errorf("%d bytes: %s", len(err.Error()), err)
		}
	})
}
