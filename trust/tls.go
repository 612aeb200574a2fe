package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Server is for a server that only peers of the roles can use: another one's handshake fails. protocols are
// offered by ALPN, none when empty.
func Server(s Source, protocols []string, roles ...Role) *tls.Config {
	var mu sync.Mutex
	var of *Material
	var config *tls.Config
	// Keys of session tickets are this configuration's, so that sessions outlive a renewal; a
	// session whose client is not to be believed any more is not resumed (crypto/tls looks).
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m, err := s.Material()
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			if of != m {
				of, config = m, &tls.Config{
					MinVersion:       tls.VersionTLS13,
					NextProtos:       protocols,
					Certificates:     []tls.Certificate{m.Certificate},
					ClientCAs:        m.Authorities,
					ClientAuth:       tls.RequireAndVerifyClientCert,
					VerifyConnection: func(c tls.ConnectionState) error { return oneOf(c, roles) },
				}
			}
			return config, nil
		},
	}
}

// Client is for a client of a server that has a role.
func Client(s Source, role Role) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m, err := s.Material()
			if err != nil {
				return nil, err
			}
			return &m.Certificate, nil
		},
		// crypto/tls takes a fixed pool and wants a host's name; the same is done here with the authorities of
		// now and with the role instead.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(c tls.ConnectionState) error {
			m, err := s.Material()
			if err != nil {
				return err
			}
			if len(c.PeerCertificates) == 0 {
				return errors.New("the server presented no certificate")
			}
			between := x509.NewCertPool()
			for _, one := range c.PeerCertificates[1:] {
				between.AddCert(one)
			}
			if _, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: m.Authorities, Intermediates: between}); err != nil {
				return err
			}
			return oneOf(c, []Role{role})
		},
	}
}

// oneOf checks the role of a peer whose certificate was verified.
func oneOf(c tls.ConnectionState, roles []Role) error {
	if len(c.PeerCertificates) == 0 {
		return errors.New("the peer presented no certificate")
	}
	role, err := RoleOf(c.PeerCertificates[0])
	if err != nil {
		return err
	}
	if !slices.Contains(roles, role) {
		return fmt.Errorf("the peer is of the role %s; %v is needed here", role, roles)
	}
	return nil
}
