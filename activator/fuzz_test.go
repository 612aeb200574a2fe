package activator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// still is an activator that does not run: what is called on it is all that happens.
func still(t testing.TB) *Activator {
	t.Helper()
	a, err := New(Options{
		Name: "act-1", Listen: "127.0.0.1:0", DrainListen: "127.0.0.1:0", ControlAddress: "127.0.0.1:1", DrainWait: time.Millisecond,
		MaxUnknown: 8, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}

// serve has the forwarder answer a request that is read from text, whose caller leaves when ctx ends.
func (a *Activator) serve(ctx context.Context, text []byte) (status int, read bool) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
	if err != nil {
		return 0, false
	}
	w := httptest.NewRecorder()
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
		}
	}()
	a.forwarder.ServeHTTP(w, req.WithContext(ctx))
	return w.Code, true
}

// FuzzForward: whatever the headers of a request are, with rubbish in those of the gateway and of traces, it is answered or its
// caller leaves, a pod never sees what is the gateway's, and what the activator keeps is bounded.
func FuzzForward(f *testing.F) {
	for _, headers := range []string{
		"X-Ebb-Revision: " + testCluster + "\r\n",
		"X-Ebb-Revision: " + testCluster + "\r\nX-Ebb-Repeatable: 1\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nTracestate: a=b,c\r\n",
		"X-Ebb-Revision: rev/a/b/c\r\nTraceparent: 00-00-00-zz\r\n",
		"X-Ebb-Revision: rev/a/b/c/d\r\nX-Ebb-Revision: " + testCluster + "\r\n",
		"X-Ebb-Revision: \r\nForwarded: for=\"[::1]\"\r\nConnection: x-ebb-revision, close\r\n",
		"X-Ebb-Revision: " + strings.Repeat("r", 5000) + "\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\nX-Ebb-Revision: " + testCluster + "\r\n",
		"Transfer-Encoding: chunked\r\nTrailer: X-A\r\nX-Ebb-Revision: " + testCluster + "\r\n",
	} {
		f.Add("POST", "/a?b;c=%zz", headers, "3\r\nabc\r\n0\r\nX-A: b\r\n\r\n")
	}
	a := still(f)
	leaked := make(chan string, 1)
	pod := app(f, "p1", func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Ebb-") && (name == revisionHeader || name == repeatableHeader) {
				select {
				case leaked <- name:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})
	pod.Ready = true
	if _, no := a.table.lookup(testCluster); no != nil {
		f.Fatal(no)
	}
	described := revisionOf(pod)
	described.TraceCollector = "grpc://127.0.0.1:1"
	if err := a.table.apply(testCluster, described); err != nil {
		f.Fatal(err)
	}
	good := []byte("GET / HTTP/1.1\r\nHost: h\r\n" + ir.RevisionHeader + ": " + testCluster + "\r\n\r\n")
	f.Fuzz(func(t *testing.T, method, target, headers, body string) {
		ctx, leave := context.WithTimeout(context.Background(), 20*time.Millisecond)
		a.serve(ctx, []byte(method+" "+target+" HTTP/1.1\r\nHost: h\r\n"+headers+"\r\n"+body))
		leave()
		select {
		case name := <-leaked:
			t.Errorf("the pod saw %s", name)
		default:
		}
		if n := a.table.size(); n > 9 {
			t.Errorf("%d revisions are known, of which 8 may be unknown to the control plane", n)
		}
		if n := a.metrics.inProgress.Load(); n != 0 {
			t.Errorf("%d requests are in progress", n)
		}
		if status, _ := a.serve(context.Background(), good); status != http.StatusOK {
			t.Errorf("a good request after it: %d", status)
		}
	})
}

// FuzzDrainPath: whatever is asked of the address for hooks, it is answered, and soon where there is no leader.
func FuzzDrainPath(f *testing.F) {
	for _, path := range []string{"/drain/default/hello-00001", "/drain//", "/drain/a/b/c", "/drain/%2e%2e/x", "/drain/a%2fb/c", "//drain/a/b", "/"} {
		f.Add("GET", path)
	}
	a := still(f)
	handler := a.drainer.handler()
	f.Fuzz(func(t *testing.T, method, path string) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("%s %s: %d", method, path, w.Code)
		}
		if n := a.metrics.drains.Load(); n != 0 {
			t.Errorf("%d hooks are in progress", n)
		}
	})
}

// FuzzControl: whatever the control plane says, in discovery and to a member, is taken or refused, and what was asked of a pod
// that was given up is answered.
func FuzzControl(f *testing.F) {
	add := func(spec *link.Revision, to *link.ToActivator) {
		body, err := anypb.New(spec)
		if err != nil {
			f.Fatal(err)
		}
		response, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: link.RevisionType, Nonce: "1", Resources: []*discoveryv3.Resource{{Name: testCluster, Version: "1", Resource: body}},
		})
		if err != nil {
			f.Fatal(err)
		}
		message, err := proto.Marshal(to)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(response, message)
	}
	add(revisionOf(), &link.ToActivator{Joined: true})
	full := revisionOf(&link.Pod{Name: "p", Address: "not an address", Port: 1 << 31, Activator: "act-1@x", Turn: 5, Elsewhere: 1 << 30})
	full.ContainerConcurrency, full.Failure = 1<<31, "no"
	add(full, &link.ToActivator{Releases: []*link.Release{{Cluster: testCluster, Pod: "p", Turn: 7}, {Cluster: "?"}}, Left: &link.Left{Others: 1 << 31}})
	f.Fuzz(func(t *testing.T, response, message []byte) {
		a := still(t)
		if _, no := a.table.lookup(testCluster); no != nil {
			t.Fatal(no)
		}
		said := new(discoveryv3.DeltaDiscoveryResponse)
		if proto.Unmarshal(response, said) == nil {
			for _, one := range said.GetResources() {
				spec := new(link.Revision)
				if one.GetResource().UnmarshalTo(spec) != nil {
					continue
				}
				for _, pod := range spec.GetPods() { // nobody else's ports are probed
					if _, err := netip.ParseAddr(pod.GetAddress()); err == nil {
						pod.Address, pod.Port = "127.0.0.1", 1
					}
				}
				one.Resource, _ = anypb.New(spec)
			}
			if ack := a.control.take(said); ack.GetResponseNonce() != said.GetNonce() {
				t.Errorf("nonce %q is answered with %q", said.GetNonce(), ack.GetResponseNonce())
			}
		}
		to := new(link.ToActivator)
		if proto.Unmarshal(message, to) == nil {
			a.member.take(to)
			if n := len(a.member.pending().GetShares()); n > len(to.GetReleases()) {
				t.Errorf("%d releases are answered by %d shares", len(to.GetReleases()), n)
			}
		}
	})
}
