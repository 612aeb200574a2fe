package envoy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/envoytest"
)

// serial numbers of certificates that tests make.
var serials atomic.Int64

// selfSigned makes a certificate for hosts and returns it with its serial number.
func selfSigned(t testing.TB, hosts ...string) (chain, key []byte, serial int64) {
	t.Helper()
	serial = serials.Add(1)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), serial
}

// controlled is a real Envoy behind the real discovery server.
type controlled struct {
	*gateway
	t      testing.TB
	server *xds.Server
}

func startControlled(t *testing.T, options xds.Options, resources ...*xds.Resource) *controlled {
	t.Helper()
	server := xds.New(options)
	t.Cleanup(server.Close)
	g := grpc.NewServer(xds.GRPCOptions()...)
	server.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	server.Update(resources, nil)
	server.Open()
	bootstrap, err := envoy.Bootstrap(envoy.BootstrapConfig{NodeID: "gateway-0", Controller: l.Addr().String(), Admin: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	e := envoytest.Start(t, bootstrap)
	e.AwaitReady(t)
	return &controlled{gateway: &gateway{Envoy: e}, t: t, server: server}
}

func resource(t testing.TB, name string, m proto.Message, err error, options ...xds.ResourceOption) *xds.Resource {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	r, err := xds.NewResource(name, m, options...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func listenerResource(t testing.TB, l ir.Listener) *xds.Resource {
	t.Helper()
	m, err := envoy.Listener(l)
	return resource(t, l.Name, m, err)
}

// routeResources are all that a Route needs whose backends are the clusters.
func routeResources(t testing.TB, r ir.Route, clusters ...cluster) []*xds.Resource {
	t.Helper()
	var made []*xds.Resource
	var needs []xds.Key
	for _, c := range clusters {
		eds, errEDS := envoy.ClusterLoadAssignment(c.endpoints())
		cds, err := envoy.Cluster(ir.Cluster{Name: c.name, Protocol: c.protocol})
		endpoints := resource(t, c.name, eds, errEDS, xds.AsLazy())
		cl := resource(t, c.name, cds, err, xds.AsLazy(), xds.WithNeeds(endpoints.Key))
		made, needs = append(made, endpoints, cl), append(needs, cl.Key)
	}
	rds, err := envoy.RouteConfiguration(r)
	made = append(made, resource(t, r.Name, rds, err, xds.AsLazy(), xds.WithNeeds(needs...)))
	scopes, err := envoy.Scopes(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scopes {
		made = append(made, resource(t, s.Name, s, nil, xds.WithNeeds(xds.Key{Type: xds.RouteType, Name: r.Name})))
	}
	return made
}

func (c *controlled) certificate(host string, covers ...string) (*xds.Resource, int64) {
	c.t.Helper()
	chain, key, serial := selfSigned(c.t, append(covers, host)...)
	secret, err := envoy.Secret(ir.Certificate{Host: host, Owner: "DomainMapping/test/" + ir.Owner(host), Chain: chain, Key: key})
	return resource(c.t, host, secret, err), serial
}

// dial makes a TLS connection and returns the serial number of the certificate that it was shown.
func (c *controlled) dial(to netip.AddrPort, host string, protocols ...string) (*tls.Conn, int64, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: protocols}}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, 0, err
	}
	secure := conn.(*tls.Conn)
	return secure, secure.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func (c *controlled) clientTLS(t *testing.T, to netip.AddrPort, host string, h2 bool) *http.Client {
	return c.client(t, to, func(transport *http.Transport) {
		transport.TLSClientConfig = &tls.Config{ServerName: host, InsecureSkipVerify: true}
		transport.ForceAttemptHTTP2 = h2
	})
}

// TestTLS: certificates by server name, asked for on demand, and renewed under a connection that is held.
func TestTLS(t *testing.T) {
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Host, r.Header.Get("X-Forwarded-Proto"), r.Header.Get("Forwarded"))
	})
	one := cluster{name: "one", protocol: ir.HTTP1, pods: pods(backend)}
	route := ir.Route{Name: "route/test/test/1", Hosts: []ir.VirtualHost{{
		Name: "main",
		Domains: []ir.Domain{
			{Host: "a.test", Audience: ir.External}, {Host: "b.test", Audience: ir.External}, {Host: "a.internal", Audience: ir.Internal},
		},
		Rules: []ir.Rule{
			{Match: ir.Match{Scheme: "http", Audience: ir.External, PathPrefix: "/secure"}, Redirect: &ir.Redirect{HTTPS: true, Port: 8443}},
			{Match: ir.Match{Scheme: "http", Audience: ir.External, PathPrefix: "/usual"}, Redirect: &ir.Redirect{HTTPS: true, Status: 308}},
			{Backends: []ir.Backend{{Cluster: "one", Weight: 100}}},
		},
	}}}
	var names sync.Map // secrets that the gateway is subscribed to
	options := xds.Options{OnSubscribe: func(typeURL, name string, on bool) {
		if typeURL != xds.SecretType {
			return
		}
		if on {
			names.Store(name, true)
		} else {
			names.Delete(name)
		}
	}}
	free := netip.MustParseAddrPort("127.0.0.1:0")
	c := startControlled(t, options, append(routeResources(t, route, one),
		listenerResource(t, ir.Listener{Name: "external", Address: free, Audience: ir.External}),
		listenerResource(t, ir.Listener{Name: "external-https", Address: free, Audience: ir.External, TLS: true}),
		listenerResource(t, ir.Listener{Name: "internal", Address: free, Audience: ir.Internal}))...)
	plain, secure, inside := c.Listener(t, "external"), c.Listener(t, "external-https"), c.Listener(t, "internal")
	a, serialA := c.certificate("a.test")
	b, serialB := c.certificate("b.test")
	c.server.Update([]*xds.Resource{a, b}, nil)

	for host, want := range map[string]int64{"a.test": serialA, "b.test": serialB} {
		for _, protocol := range []string{"h2", "http/1.1"} {
			conn, got, err := c.dial(secure, host, protocol)
			if err != nil || got != want || conn.ConnectionState().NegotiatedProtocol != protocol {
				t.Fatalf("%s with %s: certificate %d, want %d; %v", host, protocol, got, want, err)
			}
			conn.Close()
		}
	}
	for _, host := range []string{"c.test", ""} {
		if _, got, err := c.dial(secure, host); err == nil {
			t.Errorf("server name %q, which has no certificate, got number %d", host, got)
		}
	}
	// Whoever asks for names that do not exist leaves nothing behind.
	for i := range 300 {
		if _, _, err := c.dial(secure, fmt.Sprintf("x%d.test", i)); err == nil {
			t.Error("a host without a certificate got one")
		}
	}
	eventually(t, "only the subscriptions to certificates that exist", func() error {
		var left []string
		names.Range(func(name, _ any) bool { left = append(left, name.(string)); return true })
		slices.Sort(left)
		if !slices.Equal(left, []string{"a.test", "b.test"}) {
			return fmt.Errorf("%d: %.200q", len(left), left)
		}
		return nil
	})
	for _, h2 := range []bool{true, false} {
		answer := ask(t, c.clientTLS(t, secure, "a.test", h2), "GET", "https://a.test/secure", nil, "X-Forwarded-Proto", "http")
		if answer.status != 200 || !strings.HasPrefix(answer.body, "a.test https ") || !strings.HasSuffix(answer.body, "proto=https") {
			t.Errorf("over TLS: %d %q", answer.status, answer.body)
		}
	}
	http1 := c.client(t, plain)
	http1.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, want := range map[string]string{
		"/secure?q=1": "301 https://a.test:8443/secure?q=1",
		"/usual":      "308 https://a.test/usual",
		"/other":      "200 ",
	} {
		// What a client says of its scheme does not count.
		answer := ask(t, http1, "GET", "http://a.test:80"+path, nil, "X-Forwarded-Proto", "https")
		if got := fmt.Sprint(answer.status, " ", answer.header.Get("Location")); got != want {
			t.Errorf("%s without TLS answers %s, want %s", path, got, want)
		}
	}
	if answer := ask(t, c.client(t, inside), "GET", "http://a.internal/secure", nil); answer.status != 200 {
		t.Errorf("a caller inside is redirected: %d %v", answer.status, answer.header)
	}

	// A certificate that was missing is there for the next connection.
	late, serialLate := c.certificate("c.test")
	c.server.Update([]*xds.Resource{late}, nil)
	eventually(t, "the new certificate", func() error {
		conn, got, err := c.dial(secure, "c.test")
		if err == nil {
			conn.Close()
		}
		if err == nil && got != serialLate {
			err = fmt.Errorf("number %d, want %d", got, serialLate)
		}
		return err
	})

	// Renewed: the held connection goes on, new ones get the new certificate.
	held := c.clientTLS(t, secure, "a.test", false)
	var connections atomic.Int64
	held.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		connections.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, secure.String())
	}
	use := func() {
		if answer := ask(t, held, "GET", "https://a.test/", nil); answer.status != 200 {
			t.Fatalf("over the held connection: %d", answer.status)
		}
	}
	use()
	renewed, serialRenewed := c.certificate("a.test")
	c.server.Update([]*xds.Resource{renewed}, nil)
	eventually(t, "the renewed certificate", func() error {
		conn, got, err := c.dial(secure, "a.test")
		if err == nil {
			conn.Close()
		}
		if err == nil && got != serialRenewed {
			err = fmt.Errorf("still number %d", got)
		}
		return err
	})
	use()
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections were made over the renewal, want 1", n)
	}

	// Taken away, and there again.
	c.server.Update(nil, []xds.Key{a.Key})
	eventually(t, "no certificate", func() error {
		conn, _, err := c.dial(secure, "a.test")
		if err == nil {
			conn.Close()
			return fmt.Errorf("it is still shown")
		}
		return nil //nolint:nilerr // a refused handshake is what is waited for
	})
	use()
	c.server.Update([]*xds.Resource{a}, nil)
	eventually(t, "the certificate again", func() error {
		conn, got, err := c.dial(secure, "a.test")
		if err == nil {
			conn.Close()
		}
		if err == nil && got != serialA {
			err = fmt.Errorf("number %d, want %d", got, serialA)
		}
		return err
	})
	dump := c.Dump(t)
	if bytes.Contains(dump, []byte("PRIVATE KEY")) {
		t.Error("Envoy's dump holds a private key")
	}
}
