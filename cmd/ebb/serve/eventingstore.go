package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"ebb.dev/ebb/trust"
)

// storeSecrets reads what the store is shown and how it is known.
func (o *eventingOptions) storeSecrets(log *slog.Logger) error {
	if o.passwordFile != "" {
		text, err := os.ReadFile(o.passwordFile)
		if err != nil {
			return fmt.Errorf("--nats-password-file: %w", err)
		}
		o.store.Password = strings.TrimRight(string(text), "\r\n")
	}
	if o.storeEmbedded {
		files := &trust.Files{Certificate: o.storeTLS.cert, Key: o.storeTLS.key, Authorities: o.storeTLS.ca, Logger: log}
		if err := files.Check(); err != nil {
			return fmt.Errorf("--nats-embedded: --nats-tls-cert, --nats-tls-key, --nats-tls-ca: %w", err)
		}
		o.store.TLS = trust.Client(files, trust.NATS)
		return nil
	}
	if o.storeTLS.empty() {
		return nil
	}
	var err error
	o.store.TLS, err = o.storeTLS.client()
	return err
}

// client is for a server of the user's: it goes by its name, and the client's certificate, if any, is any.
func (f *tlsFiles) client() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		bundle, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--nats-tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, fmt.Errorf("--nats-tls-ca %s: it has no certificate in PEM", f.ca)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return nil, errors.New("--nats-tls-cert and --nats-tls-key: both are needed, or none")
	}
	if f.cert == "" {
		return config, nil
	}
	cert, key := f.cert, f.key
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("--nats-tls-cert, --nats-tls-key: %w", err)
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key) // it may have been renewed
		return &pair, err
	}
	return config, nil
}
