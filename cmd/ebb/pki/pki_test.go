package pki

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestEnsure(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := Certificate{Name: "server", CommonName: "server", Authority: "ca", Server: true, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
	ensure := func(at time.Time, c Certificate, want ...string) {
		t.Helper()
		made, err := Ensure(dir, []string{"ca"}, []Certificate{c}, at)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(made, want) {
			t.Errorf("made %v, want %v", made, want)
		}
	}
	ensure(now, leaf, "ca", "server")
	ensure(now, leaf)
	ensure(now.Add(certificateLife-renewBefore-time.Hour), leaf)
	ensure(now.Add(certificateLife-renewBefore+time.Hour), leaf, "server")
	more := leaf
	more.DNS = []string{"localhost", "other"}
	ensure(now, more, "server")
	ensure(now.Add(authorityLife), more, "ca", "server")

	p, err := load(dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := load(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	if _, err := p.certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1", CurrentTime: now.Add(authorityLife)}); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(dir, "server.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("server.key: %v, %v", info.Mode(), err)
	}
	if _, err := Ensure(dir, nil, []Certificate{leaf}, now); err == nil {
		t.Error("no error for an authority that is not there")
	}
}
