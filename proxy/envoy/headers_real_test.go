package envoy_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"ebb.dev/ebb/proxy/ir"
)

// seen is what a pod was sent.
type seen struct {
	Host   string
	Proto  string
	Header http.Header
}

func reporting(t *testing.T) netip.AddrPort {
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(seen{r.Host, r.Proto, r.Header})
	})
}

func decodeSeen(t *testing.T, a answer) seen {
	t.Helper()
	var s seen
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHostsAndHeaders(t *testing.T) {
	const name = "rev/test/web/1"
	web := host("web", ir.Backend{Cluster: name, Weight: 100, Headers: map[string]string{"x-plain": "100%"}})
	web.Domains = append(web.Domains, ir.Domain{Host: "web.default.svc.cluster.local", Audience: ir.Internal})
	g := startGateway(t, []ir.VirtualHost{web}, cluster{name: name, protocol: ir.Auto, behind: []netip.AddrPort{reporting(t)}})
	outside, inside := g.client(t, g.external), g.client(t, g.internal)

	t.Run("audiences", func(t *testing.T) {
		for _, c := range []struct {
			client  *http.Client
			host    string
			want    int
			headers []string
		}{
			{outside, "web.test", 200, nil},
			{outside, "web.default.svc.cluster.local", 404, nil},
			{outside, "web.default.svc.cluster.local", 404, []string{ir.AudienceHeader, "internal"}},
			{outside, "web.default.svc.cluster.local", 404, []string{"X-Ebb-Audience", "internal", "X-Ebb-Audience", "internal"}},
			{inside, "web.default.svc.cluster.local", 200, nil},
			{inside, "web.default.svc.cluster.local", 200, []string{ir.AudienceHeader, "external"}},
			{inside, "web.test", 404, nil},
			{inside, "web.test", 404, []string{ir.AudienceHeader, "external"}},
			{outside, "nobody.test", 404, nil},
		} {
			if a := ask(t, c.client, "GET", "http://"+c.host+"/", nil, c.headers...); a.status != c.want {
				t.Errorf("%s with %v: status %d, want %d", c.host, c.headers, a.status, c.want)
			}
		}
	})
	t.Run("spellings of the host", func(t *testing.T) {
		for asked, want := range map[string]string{
			"web.test":       "web.test",
			"WEB.Test":       "web.test",
			"web.test:8080":  "web.test:8080",
			"Web.test:18080": "web.test:18080",
			"web.test.":      "web.test",
		} {
			s := decodeSeen(t, ask(t, outside, "GET", "http://web.test/", nil, "Host", asked))
			if s.Host != want {
				t.Errorf("asked for %q, the pod saw %q, want %q", asked, s.Host, want)
			}
		}
		s := decodeSeen(t, ask(t, g.client(t, g.external, http2Only), "GET", "http://WEB.test:8080/", nil))
		if s.Host != "web.test:8080" || s.Proto != "HTTP/2.0" {
			t.Errorf("over h2c the pod saw %+v", s)
		}
	})
	t.Run("forwarding headers from outside", func(t *testing.T) {
		s := decodeSeen(t, ask(t, outside, "GET", "http://web.test:81/", nil,
			"X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "https", "X-Request-Id", "mine", "Forwarded", "for=192.0.2.1"))
		// For a peer on the loopback Envoy says the machine's own address.
		before, hop, ok := strings.Cut(s.Header.Get("X-Forwarded-For"), ",")
		if _, err := netip.ParseAddr(hop); !ok || err != nil || before != "192.0.2.1" {
			t.Errorf("X-Forwarded-For is %q", s.Header.Get("X-Forwarded-For"))
		}
		if got := s.Header.Get("X-Forwarded-Proto"); got != "http" {
			t.Errorf("X-Forwarded-Proto is %q", got)
		}
		if got := s.Header.Get("X-Request-Id"); got == "mine" || len(got) != 36 {
			t.Errorf("X-Request-Id is %q", got)
		}
		got := strings.Join(s.Header.Values("Forwarded"), ", ")
		if !strings.HasPrefix(got, `for=192.0.2.1, for="127.0.0.1:`) || !strings.HasSuffix(got, `";host="web.test:81";proto=http`) {
			t.Errorf("Forwarded is %q", got)
		}
	})
	t.Run("a request id is kept inside", func(t *testing.T) {
		s := decodeSeen(t, ask(t, inside, "GET", "http://web.default.svc.cluster.local/", nil, "X-Request-Id", "mine"))
		if got := s.Header.Get("X-Request-Id"); got != "mine" {
			t.Errorf("X-Request-Id is %q", got)
		}
		if _, err := netip.ParseAddr(s.Header.Get("X-Forwarded-For")); err != nil {
			t.Errorf("X-Forwarded-For: %v", err)
		}
	})
	t.Run("internal headers are ours", func(t *testing.T) {
		for _, client := range []*http.Client{outside, inside} {
			host := "http://web.test/"
			if client == inside {
				host = "http://web.default.svc.cluster.local/"
			}
			s := decodeSeen(t, ask(t, client, "GET", host, nil,
				"X-Ebb-Revision", "rev/other/other/2", "X-Ebb-Anything", "1",
				"X-Envoy-Upstream-Rq-Timeout-Ms", "1", "X-Envoy-Max-Retries", "9", "X-Envoy-Retry-On", "5xx"))
			if got := s.Header.Values(ir.RevisionHeader); len(got) != 1 || got[0] != name {
				t.Errorf("%s is %q", ir.RevisionHeader, got)
			}
			if got := s.Header.Get("X-Plain"); got != "100%" {
				t.Errorf("X-Plain is %q", got)
			}
			for header := range s.Header {
				if header == "X-Ebb-Anything" || strings.HasPrefix(header, "X-Envoy-") && header != "X-Envoy-External-Address" {
					t.Errorf("the pod saw %s: %q", header, s.Header[header])
				}
			}
		}
	})
	t.Run("nothing of Envoy in the answer", func(t *testing.T) {
		a := ask(t, outside, "GET", "http://web.test/", nil)
		for header := range a.header {
			if header == "Server" || strings.HasPrefix(header, "X-Envoy-") {
				t.Errorf("the client saw %s: %q", header, a.header[header])
			}
		}
	})
}

// TestForwardedIPv6 needs the IPv6 loopback.
func TestForwardedIPv6(t *testing.T) {
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	probe.Close()
	const name = "rev/test/web/1"
	g := startGatewayAt(t, netip.MustParseAddrPort("[::1]:0"),
		[]ir.VirtualHost{host("web", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(reporting(t))})
	s := decodeSeen(t, ask(t, g.client(t, g.external), "GET", "http://web.test/", nil))
	if got := s.Header.Get("Forwarded"); !strings.HasPrefix(got, `for="[::1]:`) {
		t.Errorf("Forwarded is %q", got)
	}
}
