package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
)

// Material is a part's own certificate and the authorities that it believes. It does not change.
type Material struct {
	Certificate tls.Certificate
	Authorities *x509.CertPool
}

// Source gives what is to be used now. It is asked at each handshake, by several goroutines.
type Source interface {
	Material() (*Material, error)
}

// Parse reads PEM: a certificate (with those between it and its authority, if any), its key, and
// the authorities.
func Parse(certificate, key, authorities []byte) (*Material, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("certificate and key: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, errors.New("authorities: there is no certificate in PEM")
	}
	return &Material{Certificate: pair, Authorities: pool}, nil
}

// Held is a Source that is given its material by the process itself.
type Held struct{ current atomic.Pointer[Material] }

// Set replaces it.
func (h *Held) Set(m *Material) { h.current.Store(m) }

// Material is an error before the first Set.
func (h *Held) Material() (*Material, error) {
	if m := h.current.Load(); m != nil {
		return m, nil
	}
	return nil, errors.New("there is no certificate yet")
}
