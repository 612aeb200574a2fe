package envoy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/test/envoytest"
)

// gateway is a real Envoy with exactly the resources this package makes, read from
// files instead of a control plane: only the places that say where to ask are changed.
type gateway struct {
	*envoytest.Envoy
	dir                string
	external, internal netip.AddrPort
}

// cluster is one cluster of a test's world.
type cluster struct {
	name     string
	protocol ir.Protocol
	stats    string
	pods     []netip.AddrPort
	behind   []netip.AddrPort // priority 1
	hold     *ir.Hold         // instead of behind: activators by way of a hold
}

// startGateway serves one Route with these hosts.
func startGateway(t *testing.T, hosts []ir.VirtualHost, clusters ...cluster) *gateway {
	t.Helper()
	return startGatewayAt(t, netip.MustParseAddrPort("127.0.0.1:0"), hosts, clusters...)
}

func startGatewayAt(t *testing.T, address netip.AddrPort, hosts []ir.VirtualHost, clusters ...cluster) *gateway {
	t.Helper()
	return startGatewayWith(t, setup{address: address}, hosts, clusters...)
}

// setup is what a test changes of a gateway.
type setup struct {
	address  netip.AddrPort // 127.0.0.1:0 if not given
	limits   ir.Limits
	overload []byte // the overload manager, JSON
	// bootstrap is more of it, YAML, with the admin interface; "" for that alone.
	bootstrap string
	listener  func(*ir.Listener)
}

func startGatewayWith(t *testing.T, s setup, hosts []ir.VirtualHost, clusters ...cluster) *gateway {
	t.Helper()
	if !s.address.IsValid() {
		s.address = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if s.bootstrap == "" {
		s.bootstrap = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}, ignore_global_conn_limit: true}"
	}
	g := &gateway{dir: t.TempDir()}
	route := ir.Route{Name: "route/test/test/1", Owner: "Route/test/test", Hosts: hosts}

	var listeners []proto.Message
	for _, audience := range []ir.Audience{ir.External, ir.Internal} {
		listener := ir.Listener{Name: string(audience), Audience: audience, Address: s.address, Limits: s.limits}
		if s.listener != nil {
			s.listener(&listener)
		}
		l, err := envoy.Listener(listener)
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	var clusterMessages []proto.Message
	for _, c := range clusters {
		if c.hold == nil {
			continue
		}
		made, err := envoy.Hold(*c.hold)
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, made.Listener)
		clusterMessages = append(clusterMessages, made.Cluster)
		g.write(t, edsFile(made.Cluster.GetName()), made.Endpoints)
	}
	g.write(t, "lds", listeners...)
	scopes, err := envoy.Scopes(route)
	if err != nil {
		t.Fatal(err)
	}
	var scopeMessages []proto.Message
	for _, s := range scopes {
		scopeMessages = append(scopeMessages, s)
	}
	g.write(t, "srds", scopeMessages...)
	config, err := envoy.RouteConfiguration(route)
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "rds", config)
	for _, c := range clusters {
		encoded, err := envoy.Cluster(ir.Cluster{Name: c.name, Protocol: c.protocol, Stats: c.stats})
		if err != nil {
			t.Fatal(err)
		}
		clusterMessages = append(clusterMessages, encoded)
		g.endpoints(t, c.endpoints())
	}
	g.write(t, "cds", clusterMessages...)

	bootstrap := fmt.Sprintf(`
node: {id: test, cluster: ebb-gateway}
bootstrap_extensions:
- name: envoy.bootstrap.internal_listener
  typed_config: {"@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}
dynamic_resources:
  cds_config: {resource_api_version: V3, path_config_source: {path: %[1]s/cds.json}}
  lds_config: {resource_api_version: V3, path_config_source: {path: %[1]s/lds.json}}
%[2]s
`, g.dir, s.bootstrap)
	if s.overload != nil {
		bootstrap += fmt.Sprintf("overload_manager: %s\n", s.overload)
	}
	g.Envoy = envoytest.Start(t, []byte(bootstrap))
	g.AwaitReady(t)
	g.external, g.internal = g.Listener(t, "external"), g.Listener(t, "internal")
	return g
}

func (c cluster) endpoints() ir.Endpoints {
	e := ir.Endpoints{Cluster: c.name}
	for priority, addresses := range [][]netip.AddrPort{c.pods, c.behind} {
		for _, a := range addresses {
			e.Priorities[priority] = append(e.Priorities[priority], ir.Endpoint{Name: a.String(), Address: a})
		}
	}
	if c.hold != nil {
		e.Priorities[1] = []ir.Endpoint{{Name: c.hold.Name, Hold: c.hold.Name}}
	}
	return e
}

func (g *gateway) endpoints(t *testing.T, e ir.Endpoints) {
	t.Helper()
	encoded, err := envoy.ClusterLoadAssignment(e)
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, edsFile(e.Cluster), encoded)
}

func edsFile(cluster string) string { return "eds-" + strings.ReplaceAll(cluster, "/", "_") }

// awaitEndpoint waits until Envoy has an endpoint of the cluster with this health.
func (g *gateway) awaitEndpoint(t *testing.T, cluster string, address netip.AddrPort, health ir.Health) {
	t.Helper()
	flag := map[ir.Health]string{ir.Healthy: "healthy", ir.Draining: "/eds_status_draining"}[health]
	line := fmt.Sprintf("%s::%s::health_flags::%s\n", cluster, address, flag)
	eventually(t, line, func() error {
		a, err := tryAsk(http.DefaultClient, "GET", g.Admin+"/clusters", nil)
		if err == nil && !strings.Contains(a.body, line) {
			err = fmt.Errorf("not in %s", a.body)
		}
		return err
	})
}

// write puts a discovery response into a file, in one step.
func (g *gateway) write(t *testing.T, name string, resources ...proto.Message) {
	t.Helper()
	packed := []any{}
	for _, r := range resources {
		a, err := anypb.New(r)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := json.Unmarshal(encoded, &tree); err != nil {
			t.Fatal(err)
		}
		g.fromFiles(tree)
		packed = append(packed, tree)
	}
	text, err := json.Marshal(map[string]any{"version_info": time.Now().String(), "resources": packed})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.dir, name+".json")
	if err := os.WriteFile(file+"~", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+"~", file); err != nil {
		t.Fatal(err)
	}
}

// fromFiles points every config source at the file that stands for it.
func (g *gateway) fromFiles(tree map[string]any) {
	for key, value := range tree {
		file := map[string]string{"rds_config_source": "rds", "scoped_rds_config_source": "srds"}[key]
		if key == "eds_config" {
			file = "-" // filled in by the cluster, which knows its name
		}
		switch v := value.(type) {
		case map[string]any:
			if file == "" {
				g.fromFiles(v)
				if eds, ok := v["eds_config"]; ok && eds == nil {
					v["eds_config"] = g.source(edsFile(tree["name"].(string)))
				}
			} else if file == "-" {
				tree[key] = nil
			} else {
				tree[key] = g.source(file)
			}
		case []any:
			for _, element := range v {
				if m, ok := element.(map[string]any); ok {
					g.fromFiles(m)
				}
			}
		}
	}
}

func (g *gateway) source(file string) map[string]any {
	return map[string]any{
		"resource_api_version": "V3",
		"path_config_source":   map[string]any{"path": filepath.Join(g.dir, file+".json")},
	}
}

// client reaches the gateway under any host name.
func (g *gateway) client(t *testing.T, to netip.AddrPort, change ...func(*http.Transport)) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, to.String())
		},
		MaxIdleConnsPerHost: 100,
		DisableCompression:  true,
	}
	for _, c := range change {
		c(transport)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

func http2Only(transport *http.Transport) {
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
}

// host is a virtual host for one external name, and one rule.
func host(name string, backends ...ir.Backend) ir.VirtualHost {
	return ir.VirtualHost{
		Name:    name,
		Domains: []ir.Domain{{Host: name + ".test", Audience: ir.External}},
		Rules:   []ir.Rule{{Backends: backends}},
	}
}

// pod is a server for HTTP/1.1 and h2c; its address is that of an endpoint.
func pod(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return netip.MustParseAddrPort(server.Listener.Addr().String())
}

// named answers with its name.
func named(t *testing.T, name string) netip.AddrPort {
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name)
	})
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// answer of one request.
type answer struct {
	status int
	body   string
	header http.Header
}

func ask(t *testing.T, c *http.Client, method, url string, body io.Reader, headers ...string) answer {
	t.Helper()
	a, err := tryAsk(c, method, url, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

func tryAsk(c *http.Client, method, url string, body io.Reader, headers ...string) (answer, error) {
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, string(text), response.Header}, err
}

// eventually asks until there is no error.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("wait for %s: %v", what, err)
		case <-tick.C:
		}
	}
}
