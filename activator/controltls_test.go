package activator

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/test/trusttest"
	"ebb.dev/ebb/trust"
)

// The control plane is spoken to over mutual TLS; files that change are used for the
// next connection, and a server of another authority, or of another role, is not believed.
func TestMutualTLSWithRotation(t *testing.T) {
	old, renewed := trusttest.New(t), trusttest.New(t)
	dir := t.TempDir()
	files := old.Files(t, dir, trust.Activator)
	serve := func(a *trusttest.Authority, role trust.Role, address string) (*grpc.Server, string) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		own := a.Files(t, t.TempDir(), role)
		s := grpc.NewServer(grpc.Creds(credentials.NewTLS(trust.Server(own, []string{"h2"}, trust.Activator))))
		link.RegisterDrainServer(s, &controlPlane{changed: make(chan struct{}), asked: map[string]bool{}, drained: map[string]bool{"default/one": true}})
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return s, l.Addr().String()
	}
	server, address := serve(old, trust.Controller, "127.0.0.1:0")
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(trust.Client(files, trust.Controller))))
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
	server, _ = serve(old, trust.Gateway, address)
	if err := ask(); err == nil {
		t.Error("a server of another role was believed")
	}
	server.Stop()
	serve(renewed, trust.Controller, address)
	if err := ask(); err == nil {
		t.Error("a server of another authority was believed")
	}
	renewed.Files(t, dir, trust.Activator)
	eventually(t, "the new authority is used", func() bool { return ask() == nil })
}

// Requests are taken from gateways alone; over HTTP/1.1 and HTTP/2; and connections stay when certificates are
// replaced, while new ones are made with the new ones.
func TestOnlyGateways(t *testing.T) {
	ca, next := trusttest.New(t), trusttest.New(t)
	c := startSecureControlPlane(t, ca.Files(t, t.TempDir(), trust.Controller))
	own := t.TempDir()
	a := startActivator(t, c, func(o *Options) { o.Trust = ca.Files(t, own, trust.Activator) })
	c.set(revisionOf(app(t, "p1", echo)))
	over := func(s trust.Source, protocol string) *http.Client {
		config := &tls.Config{InsecureSkipVerify: true}
		if s != nil {
			config = trust.Client(s, trust.Activator)
		}
		tr := &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(protocol == "HTTP/1.1")
		tr.Protocols.SetHTTP2(protocol == "HTTP/2.0")
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	ask := func(c *http.Client) (*http.Response, error) {
		req := newRequest(t, a, http.MethodGet, "/", nil)
		req.URL.Scheme = "https"
		res, err := c.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		return res, err
	}
	good := func(what string, c *http.Client, protocol string) {
		t.Helper()
		if res, err := ask(c); err != nil || res.StatusCode != http.StatusOK || res.Proto != protocol {
			t.Errorf("%s: %v, %v", what, res, err)
		}
	}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		good("a gateway by "+protocol, over(ca.Files(t, t.TempDir(), trust.Gateway), protocol), protocol)
		for what, s := range map[string]trust.Source{
			"nobody": nil, "an activator": ca.Files(t, t.TempDir(), trust.Activator), "a controller": ca.Files(t, t.TempDir(), trust.Controller),
			"somebody without a role": ca.Files(t, t.TempDir(), ""), "a gateway of others": next.Files(t, t.TempDir(), trust.Gateway),
		} {
			if res, err := ask(over(s, protocol)); err == nil {
				t.Errorf("%s is let in by %s: %s", what, protocol, res.Status)
			}
		}
	}
	if res, err := client(t, false).Do(newRequest(t, a, http.MethodGet, "/", nil)); err == nil && res.StatusCode != http.StatusBadRequest {
		t.Errorf("plain text is taken: %s", res.Status)
	}

	kept := over(ca.Files(t, t.TempDir(), trust.Gateway), "HTTP/2.0")
	good("before", kept, "HTTP/2.0")
	next.Believe(ca)
	next.Files(t, own, trust.Activator)
	good("an open connection after a change of the authority", kept, "HTTP/2.0")
	if _, err := ask(over(ca.Files(t, t.TempDir(), trust.Gateway), "HTTP/1.1")); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a gateway that does not believe the new authority: %v", err)
	}
	ca.Believe(next)
	good("a gateway that was signed by the old one and believes both", over(ca.Files(t, t.TempDir(), trust.Gateway), "HTTP/1.1"), "HTTP/1.1")
	good("a gateway that was signed by the new one", over(next.Files(t, t.TempDir(), trust.Gateway), "HTTP/1.1"), "HTTP/1.1")
}
