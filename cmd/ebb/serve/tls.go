package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// tlsFiles are the files of one peer of a mutual TLS connection, all three or none.
type tlsFiles struct{ cert, key, ca string }

func (f *tlsFiles) flags(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "tls-cert", "", "certificate `FILE` for the control connection")
	flags.StringVar(&f.key, "tls-key", "", "private key `FILE` for the control connection")
	flags.StringVar(&f.ca, "tls-ca", "", "`FILE` with the authorities whose certificates peers must have")
}

func (f *tlsFiles) empty() bool { return f.cert == "" && f.key == "" && f.ca == "" }

// config is for both sides. The files are read again at each handshake, so that a
// renewed certificate needs no restart.
func (f *tlsFiles) config() (*tls.Config, error) {
	if f.cert == "" || f.key == "" || f.ca == "" {
		return nil, errors.New("--tls-cert, --tls-key and --tls-ca go together")
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca: %s holds no certificate", f.ca)
	}
	load := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(f.cert, f.key)
		return &c, err
	}
	if _, err := load(); err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              pool,
		ClientCAs:            pool,
		ClientAuth:           tls.RequireAndVerifyClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() },
	}, nil
}

// activatorName is the common name in the certificates of activators.
const activatorName = "ebb-activator"

// identify refuses a peer whose certificate has another common name; nil, which takes everybody, without TLS.
func (f *tlsFiles) identify(name string) func(context.Context) error {
	if f.empty() {
		return nil
	}
	return func(ctx context.Context) error {
		p, _ := peer.FromContext(ctx)
		if p != nil {
			if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
				if has := info.State.VerifiedChains[0][0].Subject.CommonName; has != name {
					return fmt.Errorf("the certificate is for %q, and %q is needed", has, name)
				}
				return nil
			}
		}
		return errors.New("no certificate was presented")
	}
}

// credentials are plaintext when no file is given.
func (f *tlsFiles) credentials() (credentials.TransportCredentials, error) {
	if f.empty() {
		return insecure.NewCredentials(), nil
	}
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(config), nil
}
