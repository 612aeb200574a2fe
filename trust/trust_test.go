package trust_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/test/trusttest"
	"ebb.dev/ebb/trust"
)

func TestRoleOf(t *testing.T) {
	a := trusttest.New(t)
	for _, role := range []trust.Role{trust.Controller, trust.Activator, trust.Gateway} {
		m, err := a.Files(t, t.TempDir(), role).Material()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := trust.RoleOf(m.Certificate.Leaf); got != role || err != nil {
			t.Errorf("%s is read as %q, %v", role, got, err)
		}
	}
	for _, role := range []trust.Role{"", "admin", "gateway/../activator"} {
		m, err := a.Files(t, t.TempDir(), role).Material()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := trust.RoleOf(m.Certificate.Leaf); err == nil {
			t.Errorf("%q is read as %q", role, got)
		}
	}
}

// meet is one handshake, with an exchange that shows that both ends took the other; it returns what each end says, and
// whether an earlier session went on.
func meet(t *testing.T, server, client *tls.Config) (resumed bool, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	said := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			said <- err
			return
		}
		defer func() { _ = c.Close() }()
		conn := tls.Server(c, server)
		if err := conn.Handshake(); err != nil {
			said <- err
			return
		}
		_, err = conn.Write([]byte("x"))
		said <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	conn := tls.Client(c, client)
	_, clientErr = io.ReadFull(conn, make([]byte, 1))
	return conn.ConnectionState().DidResume, <-said, clientErr
}

// Every pair of roles meets at a server of every role: only the right one is let in, by both.
func TestPeers(t *testing.T) {
	a, other := trusttest.New(t), trusttest.New(t)
	now := time.Now()
	of := func(r trust.Role) trust.Source { return a.Files(t, t.TempDir(), r) }
	for _, test := range []struct {
		name           string
		server, client trust.Source
		serverSays     string
		clientSays     string
	}{
		{"a gateway to an activator", of(trust.Activator), of(trust.Gateway), "", ""},
		{"an activator to an activator", of(trust.Activator), of(trust.Activator), "role activator", "bad certificate"},
		{"the controller to an activator", of(trust.Activator), of(trust.Controller), "role controller", "bad certificate"},
		{"a certificate without a role", of(trust.Activator), of(""), "names a role", "bad certificate"},
		{"an activator's place taken by a gateway", of(trust.Gateway), of(trust.Gateway), "bad certificate", "role gateway"},
		{"a client of another authority", of(trust.Activator), other.Files(t, t.TempDir(), trust.Gateway), "", "unknown authority"},
		{"an expired client", of(trust.Activator), a.FilesAt(t, t.TempDir(), trust.Gateway, now.Add(-31*24*time.Hour)), "expired", "bad certificate"},
		{"an expired server", a.FilesAt(t, t.TempDir(), trust.Activator, now.Add(-31*24*time.Hour)), of(trust.Gateway), "bad certificate", "expired"},
		{"a client whose clock is half an hour ahead", of(trust.Activator), a.FilesAt(t, t.TempDir(), trust.Gateway, now.Add(30*time.Minute)), "", ""},
		{"a client of tomorrow", of(trust.Activator), a.FilesAt(t, t.TempDir(), trust.Gateway, now.Add(24*time.Hour)), "not yet valid", "bad certificate"},
	} {
		_, serverErr, clientErr := meet(t, trust.Server(test.server, nil, trust.Gateway), trust.Client(test.client, trust.Activator))
		says := func(end, want string, err error) {
			if want == "" && test.serverSays+test.clientSays == "" && err != nil {
				t.Errorf("%s: the %s says %v", test.name, end, err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: the %s says %v, want %q", test.name, end, err, want)
			}
		}
		says("server", test.serverSays, serverErr)
		if test.clientSays != "bad certificate" { // which alert a client gets to see is a race with the end of the connection
			says("client", test.clientSays, clientErr)
		} else if clientErr == nil {
			t.Errorf("%s: the client was let in", test.name)
		}
	}
	_, err, _ := meet(t, trust.Server(of(trust.Activator), nil, trust.Gateway), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		t.Error("a client without a certificate was let in")
	}
}

// A session goes on after its server's certificate was renewed, and not after the client's authority is
// believed no more.
func TestSessions(t *testing.T) {
	a, next := trusttest.New(t), trusttest.New(t)
	folder := t.TempDir()
	server := trust.Server(a.Files(t, folder, trust.Activator), nil, trust.Gateway)
	client := trust.Client(a.Files(t, t.TempDir(), trust.Gateway), trust.Activator)
	client.ServerName, client.ClientSessionCache = "activator", tls.NewLRUClientSessionCache(10)
	expect := func(what string, resumed bool) {
		t.Helper()
		if got, serverErr, clientErr := meet(t, server, client); got != resumed || serverErr != nil || clientErr != nil {
			t.Errorf("%s: resumed %v, want %v; %v, %v", what, got, resumed, serverErr, clientErr)
		}
	}
	expect("first", false)
	expect("second", true)
	a.Files(t, folder, trust.Activator)
	expect("after a renewal", true)
	next.Files(t, folder, trust.Activator)
	if _, serverErr, _ := meet(t, server, client); serverErr == nil {
		t.Error("a client whose authority is believed no more was let in by its session")
	}
}

// Files that are replaced are used for the next handshake; what cannot be used leaves the last good ones.
func TestFiles(t *testing.T) {
	a := trusttest.New(t)
	folder := t.TempDir()
	f := a.Files(t, folder, trust.Gateway)
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	first, err := f.Material()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := f.Material(); again != first {
		t.Error("files that are the same were read again")
	}
	trusttest.Replace(t, folder, map[string][]byte{"tls.crt": []byte("half"), "tls.key": nil, "ca.crt": nil})
	if kept, err := f.Material(); kept != first || err != nil {
		t.Errorf("with broken files: %p, %v, want the good ones from before", kept, err)
	}
	a.Files(t, folder, trust.Gateway)
	second, err := f.Material()
	if err != nil || second == first {
		t.Errorf("renewed files are not used: %v", err)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if kept, err := f.Material(); kept != second || err != nil {
		t.Errorf("without files: %p, %v, want the good ones from before", kept, err)
	}
	if err := trusttest.Named(folder).Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files that were never there: %v", err)
	}
	if err := (&trust.Files{Certificate: "a"}).Check(); err == nil {
		t.Error("one file of three is enough")
	}
	if _, err := new(trust.Held).Material(); err == nil {
		t.Error("nothing is held, and no error says so")
	}
}

type drain struct{ link.UnimplementedDrainServer }

func (drain) Await(context.Context, *link.AwaitRequest) (*link.AwaitResponse, error) {
	return &link.AwaitResponse{}, nil
}

// A gRPC server lets each role call what is its own, and nobody what is not listed.
func TestAuthorize(t *testing.T) {
	a := trusttest.New(t)
	own := a.Files(t, t.TempDir(), trust.Controller)
	for _, test := range []struct {
		listed []trust.Role
		role   trust.Role
		want   codes.Code
	}{
		{[]trust.Role{trust.Activator}, trust.Activator, codes.OK},
		{[]trust.Role{trust.Activator}, trust.Gateway, codes.PermissionDenied},
		{nil, trust.Activator, codes.PermissionDenied},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		options := trust.Authorize(map[string][]trust.Role{link.Drain_Await_FullMethodName: test.listed})
		server := grpc.NewServer(append(options, grpc.Creds(credentials.NewTLS(trust.Server(own, []string{"h2"}, trust.Activator, trust.Gateway))))...)
		link.RegisterDrainServer(server, drain{})
		link.RegisterMembershipServer(server, link.UnimplementedMembershipServer{})
		go func() { _ = server.Serve(l) }()
		client, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(trust.Client(a.Files(t, t.TempDir(), test.role), trust.Controller))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = link.NewDrainClient(client).Await(t.Context(), &link.AwaitRequest{}); status.Code(err) != test.want {
			t.Errorf("%s calls what is for %v: %v, want %s", test.role, test.listed, err, test.want)
		}
		stream, err := link.NewMembershipClient(client).Join(t.Context())
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s opens a stream that is for nobody: %v", test.role, err)
		}
		_ = client.Close()
		server.Stop()
	}
}
