package activator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ebb.dev/ebb/proxy/link"
)

// authority is a certificate authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue writes a certificate for 127.0.0.1, its key and the authority to dir.
func (a authority) issue(t *testing.T, dir string) TLSFiles {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := TLSFiles{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
	for name, content := range map[string][]byte{
		f.Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		f.Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		f.CA:   a.pem,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// The control plane is spoken to over mutual TLS; files that change are used for the
// next connection, and a server of another authority is not believed.
func TestMutualTLSWithRotation(t *testing.T) {
	dir := t.TempDir()
	old, renewed := newAuthority(t), newAuthority(t)
	files := old.issue(t, dir)
	serve := func(a authority, address string) (drainServer, string) {
		f := a.issue(t, t.TempDir())
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		clients := x509.NewCertPool()
		clients.AddCert(a.cert)
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		})))
		c := &controlPlane{changed: make(chan struct{}), asked: map[string]bool{}, drained: map[string]bool{"default/one": true}}
		link.RegisterDrainServer(s, c)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return drainServer{s, c}, l.Addr().String()
	}
	server, address := serve(old, "127.0.0.1:0")
	creds, err := files.credentials()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ask := func() error {
		_, err := link.NewDrainClient(conn).Await(t.Context(), &link.AwaitRequest{Namespace: "default", Revision: "one"})
		conn.ResetConnectBackoff()
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	serve(renewed, address)
	if err := ask(); err == nil {
		t.Error("a server of another authority was believed")
	}
	renewed.issue(t, dir)
	eventually(t, "the new authority is used", func() bool { return ask() == nil })
}

type drainServer struct {
	*grpc.Server
	*controlPlane
}

func (d drainServer) Stop() { d.Server.Stop() }

func TestTLSFilesThatAreNotThere(t *testing.T) {
	_, err := New(Options{
		Name: "a", Listen: "127.0.0.1:0", ControlAddress: "127.0.0.1:1", Logger: quiet(),
		TLS: TLSFiles{Cert: "/nonexistent/tls.crt", Key: "/nonexistent/tls.key", CA: "/nonexistent/ca.crt"},
	})
	if err == nil {
		t.Error("missing files were accepted")
	}
}
