package envoy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
)

// overload is the overload manager of a bootstrap with these limits.
func overload(t *testing.T, l envoy.OverloadLimits) []byte {
	t.Helper()
	text, err := envoy.Bootstrap(envoy.BootstrapConfig{NodeID: "test", Controller: "127.0.0.1:1", Overload: l})
	if err != nil {
		t.Fatal(err)
	}
	var b struct {
		Manager json.RawMessage `json:"overload_manager"`
	}
	if err := yaml.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	return b.Manager
}

// pressure stands for the heap: a file says how much of it is in use.
type pressure struct{ file string }

// underPressure is the overload manager of a bootstrap, with the monitor of the heap replaced by a file.
func underPressure(t *testing.T) ([]byte, *pressure) {
	t.Helper()
	const heap, injected = "envoy.resource_monitors.fixed_heap", "envoy.resource_monitors.injected_resource"
	text := overload(t, envoy.OverloadLimits{HeapBytes: 1 << 40})
	var m map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), heap, injected)), &m); err != nil {
		t.Fatal(err)
	}
	p := &pressure{filepath.Join(t.TempDir(), "pressure")}
	for _, monitor := range m["resource_monitors"].([]any) {
		if monitor := monitor.(map[string]any); monitor["name"] == injected {
			monitor["typed_config"] = map[string]any{
				"@type":    "type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
				"filename": p.file,
			}
		}
	}
	p.set(t, 0)
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text, p
}

func (p *pressure) set(t *testing.T, part float64) {
	t.Helper()
	if err := os.WriteFile(p.file+"~", fmt.Append(nil, part), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.file+"~", p.file); err != nil {
		t.Fatal(err)
	}
}

// TestOverload: with the heap nearly full new requests get 503, those that are being
// answered go on, and with room again all is as before.
func TestOverload(t *testing.T) {
	const name = "rev/t/full/1"
	entered, release := make(chan struct{}, 1), make(chan struct{})
	app := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			entered <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "good")
	})
	manager, heap := underPressure(t)
	g := startGatewayWith(t, setup{overload: manager}, []ir.VirtualHost{host("full", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(app)})
	for title, c := range map[string]*http.Client{"h1": g.client(t, g.external), "h2": g.client(t, g.external, http2Only)} {
		answers := func(want int) {
			t.Helper()
			eventually(t, fmt.Sprint(title, ": ", want), func() error {
				a, err := tryAsk(c, "GET", "http://full.test/", nil)
				if err == nil && a.status != want {
					err = fmt.Errorf("status %d", a.status)
				}
				if err == nil && want == 503 && (!strings.Contains(a.body, "overloaded") || a.header.Get("Retry-After") == "") {
					t.Fatalf("the answer in overload is %q, with headers %v", a.body, a.header)
				}
				return err
			})
		}
		answers(200)
		held := make(chan error, 1)
		go func() {
			a, err := tryAsk(c, "GET", "http://full.test/held", nil)
			if err == nil && a.body != "good" {
				err = fmt.Errorf("status %d %q", a.status, a.body)
			}
			held <- err
		}()
		<-entered
		heap.set(t, 0.96)
		answers(503)
		release <- struct{}{}
		if err := <-held; err != nil {
			t.Errorf("%s: a request that was being answered when the overload began: %v", title, err)
		}
		heap.set(t, 0.5)
		answers(200)
	}
}

// TestOverloadEndsUploads: what still sends to a gateway without any room is cut, and so
// is what holds most of its memory.
func TestOverloadEndsUploads(t *testing.T) {
	const name = "rev/t/uploads/1"
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	began := make(chan struct{}, 2)
	reading := pod(t, func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
	})
	manager, heap := underPressure(t)
	g := startGatewayWith(t, setup{overload: manager}, []ir.VirtualHost{host("uploads", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(reading)})
	for title, c := range map[string]*http.Client{"h1": g.client(t, g.external), "h2": g.client(t, g.external, http2Only)} {
		ended := make(chan error, 1)
		go func() {
			a, err := tryAsk(c, "POST", "http://uploads.test/", endless{done})
			if err == nil && a.status < 400 {
				err = fmt.Errorf("status %d", a.status)
			} else {
				err = nil
			}
			ended <- err
		}()
		<-began
		heap.set(t, 1)
		if err := <-ended; err != nil {
			t.Errorf("%s: an upload without end: %v", title, err)
		}
		heap.set(t, 0)
		eventually(t, "room again", func() error {
			a, err := tryAsk(c, "GET", "http://uploads.test/", nil)
			if err == nil && a.status != 200 {
				err = fmt.Errorf("status %d", a.status)
			}
			return err
		})
		<-began
	}
}

// endless is a body that never ends by itself.
type endless struct{ done <-chan struct{} }

func (e endless) Read(p []byte) (int, error) {
	select {
	case <-e.done:
		return 0, io.EOF
	default:
		return len(p), nil
	}
}

// TestMemoryIsBounded has uploads whose answers do not come, so that the gateway keeps their bodies, one after the
// other until there is no room for more: it stays within its bound, refuses the next one, and takes it when
// there is room again.
func TestMemoryIsBounded(t *testing.T) {
	const name = "rev/t/memory/1"
	read, done := make(chan struct{}, 1), make(chan struct{})
	app := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			read <- struct{}{}
			select {
			case <-done:
			case <-r.Context().Done():
			}
		}
	})
	const limit, size = 150 << 20, 3 << 20
	g := startGatewayWith(t, setup{overload: overload(t, envoy.OverloadLimits{HeapBytes: limit})},
		[]ir.VirtualHost{host("memory", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(app)})
	c := g.client(t, g.external)
	inUse := func() (percent int) {
		a := ask(t, http.DefaultClient, "GET", g.Admin+"/stats?filter=fixed_heap.pressure", nil)
		if _, err := fmt.Sscanf(a.body, "overload.envoy.resource_monitors.fixed_heap.pressure: %d", &percent); err != nil {
			t.Fatalf("%q: %v", a.body, err)
		}
		return percent
	}
	ended := make(chan error)
	taken := 0
	for refused := false; !refused; {
		before := inUse()
		go func() {
			a, err := tryAsk(c, "POST", "http://memory.test/", bytes.NewReader(make([]byte, size)))
			if err == nil && a.status != 200 {
				err = fmt.Errorf("status %d %q", a.status, a.body)
			}
			ended <- err
		}()
		select {
		case <-read:
			taken++
			if taken*size > 2*limit {
				t.Fatalf("it took %d uploads of %d MiB, with a heap of %d MiB", taken, size>>20, limit>>20)
			}
			eventually(t, "the upload counts", func() error {
				if now := inUse(); now <= before {
					return fmt.Errorf("%d %% in use, and %d %% before it", now, before)
				}
				return nil
			})
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "503") {
				t.Fatalf("after %d uploads: %v, want 503", taken, err)
			}
			refused = true
		}
	}
	if most := g.MostMemory(t); most > 2*limit {
		t.Errorf("it used %d MiB, with a heap of %d MiB", most>>20, limit>>20)
	}
	close(done)
	for range taken {
		if err := <-ended; err != nil {
			t.Errorf("an upload that was taken before: %v", err)
		}
	}
	eventually(t, "the gateway takes an upload again", func() error {
		a, err := tryAsk(c, "POST", "http://memory.test/", bytes.NewReader(make([]byte, size)))
		if err == nil && a.status != 200 {
			err = fmt.Errorf("status %d", a.status)
		}
		if a.status == 200 {
			<-read
		}
		return err
	})
}

// TestConnectionLimit: one client more than allowed is turned away, and has its place when
// another one leaves; who looks at the gateway is always let in.
func TestConnectionLimit(t *testing.T) {
	const name = "rev/t/crowd/1"
	const most = 5
	g := startGatewayWith(t, setup{overload: overload(t, envoy.OverloadLimits{Connections: most})},
		[]ir.VirtualHost{host("crowd", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(named(t, "good"))})
	open := func() (net.Conn, error) {
		c, err := net.Dial("tcp", g.external.String())
		if err != nil {
			return nil, err
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: crowd.test\r\n\r\n"); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		answer := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 200" {
			return nil, errors.Join(fmt.Errorf("answered %q", answer), err, c.Close())
		}
		return c, nil
	}
	var conns []net.Conn
	for i := range most {
		c, err := open()
		if err != nil {
			t.Fatalf("connection %d of %d: %v", i+1, most, err)
		}
		conns = append(conns, c)
	}
	for range 3 {
		if _, err := open(); err == nil {
			t.Error("one more than allowed is served")
		}
	}
	if a := ask(t, http.DefaultClient, "GET", g.Admin+"/ready", nil); a.status != 200 {
		t.Errorf("its own interface answers %d", a.status)
	}
	_ = conns[0].Close()
	eventually(t, "a place for the next one", func() error {
		c, err := open()
		if err == nil {
			conns[0] = c
		}
		return err
	})
	for _, c := range conns {
		_ = c.Close()
	}
}
