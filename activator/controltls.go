package activator

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// credentials returns what a connection to the control plane is secured with. The
// files are read for every connection, so that they may be rotated while it runs.
func (f TLSFiles) credentials() (credentials.TransportCredentials, error) {
	if f.empty() {
		return insecure.NewCredentials(), nil
	}
	if _, err := f.certificate(nil); err != nil {
		return nil, err
	}
	if _, err := f.authority(); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: f.certificate,
		// The standard verification takes a fixed pool; verify does the same with the
		// authority as it is now.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   f.verify,
	}), nil
}

func (f TLSFiles) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	return &c, nil
}

func (f TLSFiles) authority() (*x509.CertPool, error) {
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authority %s: no PEM certificate in it", f.CA)
	}
	return pool, nil
}

func (f TLSFiles) verify(s tls.ConnectionState) error {
	roots, err := f.authority()
	if err != nil {
		return err
	}
	if len(s.PeerCertificates) == 0 {
		return errors.New("control plane: presented no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: s.ServerName})
	return err
}
