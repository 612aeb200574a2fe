package envoy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"

	dto "github.com/prometheus/client_model/go"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/test/metricsdoc"
)

// bootstrapParts is the product's own bootstrap without what it asks the control plane for.
func bootstrapParts(t *testing.T, c envoy.BootstrapConfig) string {
	t.Helper()
	c.NodeID, c.Controller = "gateway-0", "127.0.0.1:1"
	text, err := envoy.Bootstrap(c)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"node", "dynamic_resources", "bootstrap_extensions", "cluster_manager"} {
		delete(all, key)
	}
	if text, err = yaml.Marshal(all); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// answering is a pod that answers with the status that the path names.
func answering(t *testing.T) netip.AddrPort {
	t.Helper()
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		code, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(max(code, 200))
	})
}

// scrape reads a page of metrics.
func scrape(t *testing.T, address netip.AddrPort, method, path string) (int, map[string]*dto.MetricFamily) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || path != "/metrics" {
		return response.StatusCode, nil
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, families
}

func labels(m *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, l := range m.GetLabel() {
		all[l.GetName()] = l.GetValue()
	}
	return all
}

// series of one revision, "" for all that name none; and the values of its counters and gauges by
// name and class.
func seriesOf(families map[string]*dto.MetricFamily, revision string) (n int, values map[string]float64) {
	values = map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			l := labels(m)
			if l["revision"] != revision {
				continue
			}
			if h := m.GetHistogram(); h != nil {
				n += len(h.GetBucket()) + 2 // sum and count; infinity is among the buckets
				values[name] = float64(h.GetSampleCount())
				continue
			}
			n++
			values[name+l["class"]] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return n, values
}

// TestSeriesOfRevisions: a real Envoy with the product's configuration has at most SeriesPerRevision series of a
// revision in use, none of one without requests, counts a request by way of an activator
// once, and its metrics listener answers nothing else.
func TestSeriesOfRevisions(t *testing.T) {
	const revisions = 40
	answers, activator := answering(t), answering(t)
	hold := &ir.Hold{Name: "activator-0", Activators: []ir.Endpoint{{Name: "activator-0", Address: activator}}}
	var hosts []ir.VirtualHost
	var clusters []cluster
	for i := range revisions {
		service := fmt.Sprintf("shop-%d", i)
		name := ir.RevisionCluster("team", service+"-00001", "u")
		c := cluster{name: name, protocol: ir.Auto, stats: ir.RevisionStats("team", service, service+"-00001"), pods: []netip.AddrPort{answers}}
		if i == 0 {
			c.pods, c.hold = nil, hold
		}
		hosts = append(hosts, host(service, ir.Backend{Cluster: name, Weight: 100}))
		clusters = append(clusters, c)
	}
	rest := bootstrapParts(t, envoy.BootstrapConfig{Admin: "unix:" + filepath.Join(t.TempDir(), "admin"), Metrics: "127.0.0.1:0"})
	g := startGatewayWith(t, setup{bootstrap: rest}, hosts, clusters...)
	metrics := g.Listener(t, "metrics")

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", g.external.String())
		}}}
	defer client.CloseIdleConnections()
	statuses := []int{200, 201, 204, 301, 302, 400, 404, 429, 500, 501, 503}
	last := revisions - 1 // gets no request
	for i := range last {
		for _, status := range statuses {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://%s/%d", hosts[i].Domains[0].Host, status), strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if response.StatusCode != status {
				t.Fatalf("revision %d answers %s, want %d", i, response.Status, status)
			}
		}
	}

	// Workers give their histograms to the main thread every few seconds.
	want := map[string]float64{
		"envoy_cluster_upstream_rq2xx": 3, "envoy_cluster_upstream_rq3xx": 2, "envoy_cluster_upstream_rq4xx": 3, "envoy_cluster_upstream_rq5xx": 3,
		"envoy_cluster_upstream_rq_active": 0, "envoy_cluster_upstream_rq_time": float64(len(statuses)),
	}
	var families map[string]*dto.MetricFamily
	g.Await(t, "histograms of every revision", func() error {
		_, families = scrape(t, metrics, http.MethodGet, "/metrics")
		for i := range last {
			if _, values := seriesOf(families, fmt.Sprintf("shop-%d-00001", i)); values["envoy_cluster_upstream_rq_time"] != float64(len(statuses)) {
				return fmt.Errorf("revision %d has %v", i, values)
			}
		}
		return nil
	})
	most := 0
	for i := range last {
		n, values := seriesOf(families, fmt.Sprintf("shop-%d-00001", i))
		most = max(most, n)
		for name, value := range want {
			if values[name] != value {
				t.Errorf("revision %d: %s is %v, want %v", i, name, values[name], value)
			}
		}
		for name := range values {
			if _, known := want[name]; !known {
				t.Errorf("revision %d has %s too", i, name)
			}
		}
	}
	if n, values := seriesOf(families, fmt.Sprintf("shop-%d-00001", last)); n != 0 {
		t.Errorf("the revision without requests has %d series: %v", n, values)
	}
	others, _ := seriesOf(families, "")
	if most > envoy.SeriesPerRevision || 5000*envoy.SeriesPerRevision+others > 100_000 {
		t.Errorf("%d series of a revision, %d of the gateway: 5,000 services have %d", most, others, 5000*envoy.SeriesPerRevision+others)
	}
	t.Logf("%d series of a revision with four classes of status, %d of the gateway itself", most, others)
	for _, m := range families["envoy_cluster_upstream_rq_active"].GetMetric() {
		if l := labels(m); l["revision"] == "shop-1-00001" && (l["namespace"] != "team" || l["service"] != "shop-1" || len(l) != 3) {
			t.Errorf("its labels are %v", l)
		}
	}
	requests := 0.0
	for _, m := range families["envoy_http_downstream_rq"].GetMetric() {
		l := labels(m)
		if l["listener"] != "external" && l["listener"] != "internal" {
			t.Errorf("the listener is %v", l)
		}
		requests += m.GetCounter().GetValue()
	}
	if requests != float64(last*len(statuses)) {
		t.Errorf("the listeners counted %v requests, want %d", requests, last*len(statuses))
	}

	compareWithPage(t, families)

	for _, ask := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/ready", 200}, {http.MethodGet, "/", 404}, {http.MethodGet, "/config_dump", 404}, {http.MethodGet, "/stats", 404},
		{http.MethodPost, "/quitquitquit", 404}, {http.MethodPost, "/metrics", 404}, {http.MethodGet, "/metrics/../config_dump", 404}, {http.MethodGet, "/ready?x=/quitquitquit", 200},
	} {
		if status, _ := scrape(t, metrics, ask.method, ask.path); status != ask.want {
			t.Errorf("%s %s answers %d, want %d", ask.method, ask.path, status, ask.want)
		}
	}
}

// compareWithPage holds docs/metrics.md to what the gateway has of revisions and listeners.
func compareWithPage(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	listed := metricsdoc.Read(t, "Gateway")
	var all []*dto.MetricFamily
	for name, f := range families {
		if len(f.GetMetric()) > 0 && (labels(f.GetMetric()[0])["revision"] != "" || listed[name].Type != "") {
			all = append(all, f)
		}
	}
	metricsdoc.Compare(t, "Gateway", "envoy_", all)
}
