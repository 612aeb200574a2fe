package credentials

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"slices"
	"time"

	"ebb.dev/ebb/trust"
)

const (
	authorityLife = 365 * 24 * time.Hour
	// successorBefore is how long before an authority's end the next one is made: longer than spread and
	// leafLife, so that nothing it signs has to end early.
	successorBefore = 60 * 24 * time.Hour
	// spread is how long an authority is believed before it signs: by then every part has read it. A
	// kubelet takes some two minutes.
	spread = 24 * time.Hour

	leafLife    = 30 * 24 * time.Hour
	renewBefore = 10 * 24 * time.Hour

	// skew is how far clocks may be apart: everything is valid from so long before it was made.
	skew = time.Hour
)

// Pair is a certificate of an authority and its key.
type Pair struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

func (p Pair) made() time.Time { return p.Certificate.NotBefore.Add(skew) }

func (p Pair) valid(now time.Time) bool {
	return !now.Before(p.Certificate.NotBefore) && now.Before(p.Certificate.NotAfter)
}

// Authority is everything that is believed, the oldest first. It is not changed: Next makes another one.
type Authority struct{ pairs []Pair }

// Next is the authority as it should be now, and whether that is another one. Random is where keys come from.
func (a Authority) Next(now time.Time, random io.Reader) (Authority, bool, error) {
	// What a clock that was ahead has made goes too, or it would sign what nobody takes.
	pairs := slices.DeleteFunc(slices.Clone(a.pairs), func(p Pair) bool { return !p.valid(now) })
	if n := len(pairs); n == 0 || now.Add(successorBefore).After(pairs[n-1].Certificate.NotAfter) {
		p, err := newAuthority(now, random)
		if err != nil {
			return a, false, err
		}
		pairs = append(pairs, p)
	}
	if i := signer(pairs, now); now.After(pairs[i].made().Add(spread + leafLife + skew)) {
		pairs = pairs[i:] // nothing lives that an earlier one signed
	}
	same := slices.EqualFunc(a.pairs, pairs, func(p, q Pair) bool { return p.Certificate.Equal(q.Certificate) })
	return Authority{pairs}, !same, nil
}

// signer is the newest that has been believed for long enough; the oldest, when none has.
func signer(pairs []Pair, now time.Time) int {
	for i, p := range slices.Backward(pairs) {
		if !now.Before(p.made().Add(spread)) {
			return i
		}
	}
	return 0
}

// Bundle is PEM of all that is to be believed.
func (a Authority) Bundle() []byte {
	var b bytes.Buffer
	for _, p := range a.pairs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate.Raw})
	}
	return b.Bytes()
}

// Keys is PEM of the keys, in the order of Bundle.
func (a Authority) Keys() ([]byte, error) {
	var b bytes.Buffer
	for _, p := range a.pairs {
		der, err := x509.MarshalPKCS8PrivateKey(p.Key)
		if err != nil {
			return nil, err
		}
		_ = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	return b.Bytes(), nil
}

// Read is the inverse of Bundle and Keys. A pair that is not one, or no authority, is an error.
func Read(bundle, keys []byte) (Authority, error) {
	var a Authority
	for n := 1; ; n++ {
		var c, k *pem.Block
		c, bundle = pem.Decode(bundle)
		k, keys = pem.Decode(keys)
		if c == nil && k == nil {
			break
		}
		if c == nil || k == nil {
			return Authority{}, fmt.Errorf("authority %d has no certificate or no key", n)
		}
		certificate, err := x509.ParseCertificate(c.Bytes)
		if err != nil {
			return Authority{}, fmt.Errorf("authority %d: %w", n, err)
		}
		key, err := x509.ParsePKCS8PrivateKey(k.Bytes)
		if err != nil {
			return Authority{}, fmt.Errorf("authority %d: its key cannot be read", n)
		}
		own, ok := key.(*ecdsa.PrivateKey)
		if !ok || !own.PublicKey.Equal(certificate.PublicKey) || !certificate.IsCA {
			return Authority{}, fmt.Errorf("authority %d: the key is not the certificate's, or that is not an authority's", n)
		}
		a.pairs = append(a.pairs, Pair{certificate, own})
	}
	slices.SortStableFunc(a.pairs, func(p, q Pair) int { return p.made().Compare(q.made()) })
	return a, nil
}

func newAuthority(now time.Time, random io.Reader) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return Pair{}, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// Verifiers that know two authorities find the right one by name or try both; names that differ spare that.
		Subject:               pkix.Name{CommonName: "ebb-ca " + now.UTC().Format("2006-01-02T15:04:05Z")},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return Pair{}, fmt.Errorf("make an authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return Pair{certificate, key}, err
}

// Leaf is one Secret with a certificate.
type Leaf struct {
	Secret string
	Role   trust.Role // "": it is known by DNS names alone
	DNS    []string
	Server bool
	Client bool
}

// Names of the Secrets. ControllerSecret and WebhookSecret are used by the controller itself.
const (
	AuthoritySecret  = "ebb-ca"
	ActivatorSecret  = "ebb-activator-tls"
	GatewaySecret    = "ebb-gateway-tls"
	ControllerSecret = "ebb-controller-tls"
	WebhookSecret    = "ebb-webhook-tls"
	EventingSecret   = "ebb-eventing-tls"
	NATSSecret       = "ebb-nats-tls"
)

// Leaves are the Secrets to keep. service is the one by which the kube-apiserver reaches admission.
func Leaves(namespace, service string) []Leaf {
	name := service + "." + namespace
	names := []string{name + ".svc", name + ".svc.cluster.local"}
	return []Leaf{
		{Secret: ActivatorSecret, Role: trust.Activator, Server: true, Client: true},
		{Secret: GatewaySecret, Role: trust.Gateway, Client: true},
		{Secret: ControllerSecret, Role: trust.Controller, DNS: names, Server: true},
		{Secret: WebhookSecret, DNS: names, Server: true},
		{Secret: EventingSecret, Role: trust.Eventing, Client: true},
		{Secret: NATSSecret, Role: trust.NATS, Server: true},
	}
}

func (l Leaf) uris() []*url.URL {
	if l.Role == "" {
		return nil
	}
	return []*url.URL{l.Role.URI()}
}

func (l Leaf) usage() []x509.ExtKeyUsage {
	var usage []x509.ExtKeyUsage
	if l.Server {
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	if l.Client {
		usage = append(usage, x509.ExtKeyUsageClientAuth)
	}
	return usage
}

// Due says why the leaf has to be signed anew, given what its Secret holds: "" when it has not to be.
func (a Authority) Due(l Leaf, certificate, key []byte, now time.Time) string {
	m, err := trust.Parse(certificate, key, a.Bundle())
	if err != nil {
		return "it cannot be used"
	}
	leaf := m.Certificate.Leaf
	names := slices.Equal(leaf.DNSNames, l.DNS) && slices.Equal(leaf.ExtKeyUsage, l.usage()) &&
		slices.EqualFunc(leaf.URIs, l.uris(), func(a, b *url.URL) bool { return a.String() == b.String() })
	_, verified := leaf.Verify(x509.VerifyOptions{Roots: m.Authorities, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	switch {
	case verified != nil:
		return "it is not valid, or of no authority that is believed"
	case !names:
		return "it has other names"
	case now.Add(renewBefore).After(leaf.NotAfter):
		return "it ends soon"
	}
	return ""
}

// Sign makes a leaf: PEM of its certificate and its key.
func (a Authority) Sign(l Leaf, now time.Time, random io.Reader) (certificate, key []byte, err error) {
	by := a.pairs[signer(a.pairs, now)]
	own, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return nil, nil, err
	}
	end := now.Add(leafLife)
	if end.After(by.Certificate.NotAfter) {
		end = by.Certificate.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: l.Secret},
		NotBefore:             now.Add(-skew),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           l.usage(),
		DNSNames:              l.DNS,
		URIs:                  l.uris(),
	}
	der, err := x509.CreateCertificate(random, template, by.Certificate, own.Public(), by.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", l.Secret, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}

func newSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 15)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, err
	}
	return new(big.Int).SetBytes(b), nil
}
