package translate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/proxy/ir"
)

// maxCertificate bounds a chain and a key, in bytes of PEM; a usual chain has 4 to 8 KiB.
const maxCertificate = 64 << 10

// KeyPair is a certificate with its key that may serve any host.
type KeyPair struct {
	Chain []byte
	Key   ir.SecretPEM
	leaf  *x509.Certificate
}

// Certificate reads a Secret of type kubernetes.io/tls. An error says what is wrong with
// it and what to do, and nothing of what is in it.
func Certificate(secret *corev1.Secret) (*KeyPair, error) {
	name := secret.Namespace + "/" + secret.Name
	if secret.Type != corev1.SecretTypeTLS {
		return nil, fmt.Errorf("secret %s is of type %s: type %s is needed, as `kubectl create secret tls` makes it", name, secret.Type, corev1.SecretTypeTLS)
	}
	chain, key := secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	for field, value := range map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key} {
		switch {
		case len(value) == 0:
			return nil, fmt.Errorf("secret %s: %s is empty", name, field)
		case len(value) > maxCertificate:
			return nil, fmt.Errorf("secret %s: %s is longer than %d bytes", name, field, maxCertificate)
		}
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, keyPairProblem(chain))
	}
	return &KeyPair{Chain: chain, Key: key, leaf: pair.Leaf}, nil
}

// keyPairProblem says which half is bad, in words of its own: a parser's may quote what it read.
func keyPairProblem(chain []byte) error {
	if !x509.NewCertPool().AppendCertsFromPEM(chain) {
		return errors.New("tls.crt holds no PEM certificate that can be read")
	}
	return errors.New("tls.key is not the private key, in PEM, of the first certificate in tls.crt")
}

// Covers says, for a person, why clients will refuse the certificate for a host; "" when they will not.
func (k *KeyPair) Covers(host string) string {
	if k.leaf.VerifyHostname(host) == nil {
		return ""
	}
	names := k.leaf.DNSNames
	if len(names) == 0 {
		return "the certificate names no host"
	}
	more := ""
	if len(names) > 5 {
		names, more = slices.Clone(names[:5]), " and others"
	}
	return fmt.Sprintf("the certificate is for %s%s, not for %s", strings.Join(names, ", "), more, host)
}

// For is the certificate of one host.
func (k *KeyPair) For(host string, owner ir.Owner) ir.Certificate {
	return ir.Certificate{Host: host, Owner: owner, Chain: k.Chain, Key: k.Key}
}
