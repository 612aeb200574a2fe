package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/envoytest"
	"ebb.dev/ebb/test/trusttest"
	"ebb.dev/ebb/trust"
)

// bootstrapOf is the bootstrap of a gateway with these certificates, with the files that it refers to.
func bootstrapOf(t testing.TB, controller string, own *trust.Files) []byte {
	t.Helper()
	folder := t.TempDir()
	config := envoy.BootstrapConfig{NodeID: "gateway-0", Controller: controller, Admin: "127.0.0.1:0", TLS: &envoy.BootstrapTLS{
		CertFile: own.Certificate, KeyFile: own.Key, CAFile: own.Authorities, Folder: folder, Controller: trust.Controller.URI().String(),
	}}
	files, err := envoy.BootstrapFiles(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bootstrap, err := envoy.Bootstrap(config)
	if err != nil {
		t.Fatal(err)
	}
	return bootstrap
}

// shown are the serial numbers of the certificates that peers have shown.
type shown struct {
	mu      sync.Mutex
	numbers map[string]bool
}

func (s *shown) add(serial string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.numbers == nil {
		s.numbers = map[string]bool{}
	}
	s.numbers[serial] = true
}

func (s *shown) has(serial string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.numbers[serial]
}

// secured is a gateway that reaches its control plane and an activator over mutual TLS.
type secured struct {
	*gateway
	t                           *testing.T
	controller, activator, edge string       // folders with certificates
	gateways                    shown        // what the activator saw
	refusals                    atomic.Int64 // handshakes of the control plane that came to nothing
	server                      *http.Server
	control                     *grpc.Server
	address, hold               string // of the control plane and the activator
	discovery                   *xds.Server
	source                      *trust.Files
}

func serial(t testing.TB, folder string) string {
	t.Helper()
	m, err := trusttest.Named(folder).Material()
	if err != nil {
		t.Fatal(err)
	}
	return m.Certificate.Leaf.SerialNumber.String()
}

func startSecured(t *testing.T, ca *trusttest.Authority, gateway *trust.Files) *secured {
	t.Helper()
	s := &secured{t: t, controller: t.TempDir(), activator: t.TempDir(), edge: filepath.Dir(gateway.Certificate)}
	ca.Files(t, s.activator, trust.Activator)
	s.hold = s.serveActivator("127.0.0.1:0")

	s.discovery = xds.New(xds.Options{OnState: func(string) {}})
	t.Cleanup(s.discovery.Close)
	s.source = ca.Files(t, s.controller, trust.Controller)
	s.serve("127.0.0.1:0")

	secrets, err := envoy.TrustSecrets(ir.Trust{
		CertificateFile: gateway.Certificate, KeyFile: gateway.Key, AuthoritiesFile: gateway.Authorities,
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []*xds.Resource
	for _, m := range secrets {
		all = append(all, resource(t, m.GetName(), m, nil))
	}
	all = append(all, listenerResource(t, ir.Listener{Name: "external", Address: netip.MustParseAddrPort("127.0.0.1:0"), Audience: ir.External}))
	hold, err := envoy.Hold(ir.Hold{
		Name: "activator-0", Identity: trust.Activator.URI().String(),
		Activators: []ir.Endpoint{{Name: "activator-0", Address: netip.MustParseAddrPort(s.hold)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	endpoints := resource(t, hold.Endpoints.GetClusterName(), hold.Endpoints, nil)
	way := resource(t, hold.Cluster.GetName(), hold.Cluster, nil, xds.WithNeeds(endpoints.Key))
	all = append(all, endpoints, way, resource(t, hold.Listener.GetName(), hold.Listener, nil, xds.WithNeeds(way.Key)))
	const name = "rev/t/one/1"
	route := ir.Route{Name: "route/t/one/1", Hosts: []ir.VirtualHost{host("one", ir.Backend{Cluster: name, Weight: 100})}}
	all = append(all, routeResources(t, route, cluster{name: name, protocol: ir.Auto, hold: &ir.Hold{Name: "activator-0"}})...)
	s.discovery.Update(all, nil)
	s.discovery.Open()

	e := envoytest.Start(t, bootstrapOf(t, s.address, gateway))
	e.AwaitReady(t)
	s.gateway = &gatewayOf{Envoy: e, external: e.Listener(t, "external")}
	return s
}

type gatewayOf = gateway

// counted counts the handshakes of a server that fail.
type counted struct {
	credentials.TransportCredentials
	failed *atomic.Int64
}

func (c counted) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		c.failed.Add(1)
	}
	return secure, info, err
}

// serveActivator opens an activator with what is in its folder.
func (s *secured) serveActivator(address string) string {
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.gateways.add(r.TLS.PeerCertificates[0].SerialNumber.String())
			if r.URL.Path == "/held" {
				c := http.NewResponseController(w)
				_ = c.EnableFullDuplex()
				w.WriteHeader(http.StatusOK)
				_ = c.Flush()
				for b := make([]byte, 1); ; { // as long as the caller goes on
					if _, err := r.Body.Read(b); err != nil {
						return
					}
					_, _ = w.Write(b)
					_ = c.Flush()
				}
			}
			fmt.Fprint(w, r.Proto)
		}),
		TLSConfig: trust.Server(trusttest.Named(s.activator), []string{"h2", "http/1.1"}, trust.Gateway),
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := s.server
	go func() { _ = server.ServeTLS(l, "", "") }()
	s.t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// serve opens the control plane.
func (s *secured) serve(address string) {
	s.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	config := trust.Server(s.source, []string{"h2"}, trust.Gateway)
	s.control = grpc.NewServer(append(xds.GRPCOptions(), grpc.Creds(counted{credentials.NewTLS(config), &s.refusals}))...)
	s.discovery.Register(s.control)
	server := s.control
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(server.Stop)
}

// TestCertificatesAreReplaced: under load, with a stream open in each protocol, every certificate is replaced and then the
// authority, in the three steps that an issuer takes: no request fails, nothing is cut, and new connections show what is new.
func TestCertificatesAreReplaced(t *testing.T) {
	ca, next := trusttest.New(t), trusttest.New(t)
	s := startSecured(t, ca, ca.Files(t, t.TempDir(), trust.Gateway))
	h1, h2 := s.client(t, s.external), s.client(t, s.external, func(tr *http.Transport) {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	})
	clients := map[string]*http.Client{"HTTP/1.1": h1, "HTTP/2.0": h2}
	for protocol, c := range clients {
		if a := ask(t, c, "GET", "http://one.test/", nil); a.status != 200 || a.body != protocol {
			t.Fatalf("by %s: %d %q", protocol, a.status, a.body)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	var done atomic.Int64
	for protocol, c := range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				if a, err := tryAsk(c, "POST", "http://one.test/", strings.NewReader("x")); err != nil || a.status != 200 {
					t.Errorf("by %s: %d %q %v", protocol, a.status, a.body, err)
					return
				}
				done.Add(1)
			}
		})
	}
	var streams []func()
	for protocol, c := range clients {
		in, out := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://one.test/held", in)
		if err != nil {
			t.Fatal(err)
		}
		// Over HTTP/1.1 net/http sends before it reads.
		go func() { _, _ = out.Write([]byte("a")) }()
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, func() {
			t.Helper()
			got := make([]byte, 1)
			if _, err := out.Write([]byte("b")); err != nil {
				t.Errorf("stream by %s: %v", protocol, err)
			} else if _, err := io.ReadFull(res.Body, got); err != nil || got[0] != 'b' {
				t.Errorf("stream by %s: %q, %v", protocol, got, err)
			}
		})
	}
	if s.discovery.Streams()[0].Node != "gateway-0" {
		t.Fatal("the gateway has no stream")
	}
	id := s.discovery.Streams()[0].ID

	replace := func(what string, by *trusttest.Authority, folders ...string) {
		t.Helper()
		for _, folder := range folders {
			by.Files(t, folder, map[string]trust.Role{s.controller: trust.Controller, s.activator: trust.Activator, s.edge: trust.Gateway}[folder])
		}
		new := serial(t, s.edge)
		// New connections are made by new clients of HTTP/1.1, whose connections to the activator are their own, while others are busy.
		eventually(t, what+": the gateway shows its new certificate", func() error {
			var burst sync.WaitGroup
			failed := make(chan error, 20)
			for range 20 {
				burst.Go(func() {
					if a, err := tryAsk(h1, "GET", "http://one.test/", nil); err != nil || a.status != 200 {
						failed <- errors.Join(err, fmt.Errorf("%d %q", a.status, a.body))
					}
				})
			}
			burst.Wait()
			select {
			case err := <-failed:
				t.Errorf("%s: %v", what, err)
			default:
			}
			if !s.gateways.has(new) {
				s.server.SetKeepAlivesEnabled(false) // connections end after their requests, so that others are made
				defer s.server.SetKeepAlivesEnabled(true)
				return errors.New("not yet")
			}
			return nil
		})
		for _, stream := range streams {
			stream()
		}
		// The stream of discovery is the one from before, and a new one can be opened.
		if now := s.discovery.Streams(); len(now) != 1 || now[0].ID != id {
			t.Errorf("%s: the gateway's stream is another one: %v", what, now)
		}
		s.control.Stop()
		s.serve(s.address)
		eventually(t, what+": the gateway is back", func() error {
			now := s.discovery.Streams()
			if len(now) != 1 || now[0].ID == id {
				return fmt.Errorf("%v", now)
			}
			id = now[0].ID
			return nil
		})
	}
	everybody := []string{s.controller, s.activator, s.edge}
	replace("the gateway's certificate", ca, s.edge)
	replace("all certificates", ca, everybody...)
	ca.Believe(next)
	replace("another authority is believed", ca, everybody...)
	next.Believe(ca)
	replace("it signs", next, everybody...)
	before := done.Load()
	eventually(t, "requests go on", func() error {
		if done.Load() < before+10 {
			return errors.New("not yet")
		}
		return nil
	})
}

// TestWrongPeersOfAGateway: a gateway goes to no activator and takes no configuration from a control plane that is not one.
func TestWrongPeersOfAGateway(t *testing.T) {
	ca, other := trusttest.New(t), trusttest.New(t)
	s := startSecured(t, ca, ca.Files(t, t.TempDir(), trust.Gateway))
	c := s.client(t, s.external)
	good := func(what string) {
		t.Helper()
		if a := ask(t, c, "GET", "http://one.test/", nil); a.status != 200 {
			t.Fatalf("%s: %d %q", what, a.status, a.body)
		}
	}
	good("the right one")
	for what, impostor := range map[string]func(){
		"another role":                   func() { ca.Files(t, s.activator, trust.Gateway) },
		"another authority":              func() { other.Files(t, s.activator, trust.Activator) },
		"a certificate that has expired": func() { ca.FilesAt(t, s.activator, trust.Activator, time.Now().Add(-31*24*time.Hour)) },
	} {
		impostor()
		_ = s.server.Close()
		s.serveActivator(s.hold)
		if a := ask(t, c, "GET", "http://one.test/", nil); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %q, want 503", what, a.status, a.body)
		}
		ca.Files(t, s.activator, trust.Activator)
		_ = s.server.Close()
		s.serveActivator(s.hold)
		good(what + ": the right one again")
	}

	// A control plane of another role is not listened to, and the right one is found again.
	ca.Files(t, s.controller, trust.Activator)
	s.control.Stop()
	s.serve(s.address)
	refused := s.refusals.Load()
	eventually(t, "the gateway has refused the control plane", func() error {
		if s.refusals.Load() < refused+2 {
			return errors.New("not yet")
		}
		return nil
	})
	if now := s.discovery.Streams(); len(now) != 0 {
		t.Errorf("a gateway listens to a control plane with an activator's certificate: %v", now)
	}
	good("meanwhile")
	ca.Files(t, s.controller, trust.Controller)
	eventually(t, "the gateway is back", func() error {
		if len(s.discovery.Streams()) != 1 {
			return errors.New("not yet")
		}
		return nil
	})
}
