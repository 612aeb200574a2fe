package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	renewBefore     = 60 * 24 * time.Hour
	clockSkew       = time.Hour
)

// Certificate is one leaf to keep in the folder as NAME.crt and NAME.key.
type Certificate struct {
	Name         string
	CommonName   string
	Organization string // empty for none
	Authority    string // name of the authority that signs it
	Server       bool   // may serve under DNS and IPs
	Client       bool   // may be a client
	DNS          []string
	IPs          []net.IP
	URI          *url.URL // nil for none
}

// Ensure makes what is missing, and renews what expires soon, is not signed by its
// authority any more, or has other names. It returns the names of what it made, in
// order. Keys are ECDSA P-256, files have mode 0600.
func Ensure(dir string, authorities []string, certificates []Certificate, now time.Time) (made []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	signers := map[string]*pair{}
	for _, name := range authorities {
		p, err := load(dir, name)
		if err != nil || now.Add(renewBefore).After(p.certificate.NotAfter) || !p.certificate.IsCA {
			if p, err = newAuthority(dir, name, now); err != nil {
				return made, err
			}
			made = append(made, name)
		}
		signers[name] = p
	}
	for _, c := range certificates {
		signer := signers[c.Authority]
		if signer == nil {
			return made, fmt.Errorf("certificate %s: no authority %q", c.Name, c.Authority)
		}
		if p, err := load(dir, c.Name); err == nil && c.matches(p.certificate, signer, now) {
			continue
		}
		if err := newLeaf(dir, c, signer, now); err != nil {
			return made, err
		}
		made = append(made, c.Name)
	}
	return made, nil
}

// EnsureSigningKey keeps a key pair NAME.key, NAME.pub, for tokens.
func EnsureSigningKey(dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, name+".pub")); err == nil {
		if _, err := os.Stat(filepath.Join(dir, name+".key")); err == nil {
			return nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(dir, name+".key"), key); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+".pub"), "PUBLIC KEY", public)
}

type pair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func (c Certificate) matches(have *x509.Certificate, signer *pair, now time.Time) bool {
	if have.CheckSignatureFrom(signer.certificate) != nil || now.Add(renewBefore).After(have.NotAfter) || now.Before(have.NotBefore) {
		return false
	}
	organization := ""
	if len(have.Subject.Organization) > 0 {
		organization = have.Subject.Organization[0]
	}
	sameIPs := slices.EqualFunc(have.IPAddresses, c.IPs, func(a, b net.IP) bool { return a.Equal(b) })
	return have.Subject.CommonName == c.CommonName && organization == c.Organization &&
		slices.Equal(have.DNSNames, c.DNS) && sameIPs && slices.EqualFunc(have.URIs, c.uris(), func(a, b *url.URL) bool { return a.String() == b.String() }) && slices.Equal(have.ExtKeyUsage, c.usage())
}

func (c Certificate) uris() []*url.URL {
	if c.URI == nil {
		return nil
	}
	return []*url.URL{c.URI}
}

func (c Certificate) usage() []x509.ExtKeyUsage {
	var usage []x509.ExtKeyUsage
	if c.Server {
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	if c.Client {
		usage = append(usage, x509.ExtKeyUsageClientAuth)
	}
	return usage
}

func newAuthority(dir, name string, now time.Time) (*pair, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "ebb-" + name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	return issue(dir, name, template, nil)
}

func newLeaf(dir string, c Certificate, signer *pair, now time.Time) error {
	subject := pkix.Name{CommonName: c.CommonName}
	if c.Organization != "" {
		subject.Organization = []string{c.Organization}
	}
	_, err := issue(dir, c.Name, &x509.Certificate{
		Subject:               subject,
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(certificateLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           c.usage(),
		DNSNames:              c.DNS,
		IPAddresses:           c.IPs,
		URIs:                  c.uris(),
	}, signer)
	return err
}

// issue signs with signer, or with the new key itself when signer is nil.
func issue(dir, name string, template *x509.Certificate, signer *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	if signer == nil {
		signer = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.certificate, key.Public(), signer.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	if err := writeKey(filepath.Join(dir, name+".key"), key); err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &pair{certificate, key}, err
}

func load(dir, name string) (*pair, error) {
	der, err := readPEM(filepath.Join(dir, name+".crt"))
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if der, err = readPEM(filepath.Join(dir, name+".key")); err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, errors.New("key and certificate do not belong together")
	}
	return &pair{certificate, key}, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block.Bytes, nil
}
