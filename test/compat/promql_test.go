package compat

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/test/metricsdoc"
)

// known are all metrics of docs/metrics.md, histograms by the names of their series too.
func known(t *testing.T) map[string]metricsdoc.Metric {
	t.Helper()
	all := map[string]metricsdoc.Metric{}
	for _, section := range []string{"Gateway", "Controller", "Activator", "Ingress of events", "NATS server"} {
		for name, m := range metricsdoc.Read(t, section) {
			all[name] = m
			if m.Type == "histogram" {
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					all[name+suffix] = m
				}
			}
		}
	}
	return all
}

// expression fails the test where PromQL does not parse, or names what there is not.
func expression(t *testing.T, all map[string]metricsdoc.Metric, where, text string) {
	t.Helper()
	// What Grafana puts in.
	text = strings.NewReplacer("$__rate_interval", "1m", "$namespace", "x", "$service", "x", "$revision", "x").Replace(text)
	parsed, err := parser.ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %s: %v", where, text, err)
		return
	}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		m, ok := all[v.Name]
		if !ok {
			t.Errorf("%s: there is no metric %q (docs/metrics.md lists them): %s", where, v.Name, text)
		}
		for _, l := range v.LabelMatchers {
			if l.Name != labels.MetricName && !slices.Contains(m.Labels, l.Name) {
				t.Errorf("%s: %s has no label %q but %v", where, v.Name, l.Name, m.Labels)
			}
		}
		return nil
	})
}

// TestDashboards: every expression of config/grafana parses and names metrics and labels that there are.
func TestDashboards(t *testing.T) {
	all := known(t)
	files, err := filepath.Glob("../../config/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	uids := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID, Title string
			Panels     []struct {
				ID      int
				Title   string
				Targets []struct{ Expr string }
			}
			Templating struct {
				List []struct{ Name, Type, Definition string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if d.UID == "" || d.Title == "" || uids[d.UID] != "" || len(d.Panels) == 0 {
			t.Errorf("%s: uid %q (also of %q), title %q, %d panels", file, d.UID, uids[d.UID], d.Title, len(d.Panels))
		}
		uids[d.UID] = file
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if p.Title == "" || len(p.Targets) == 0 || ids[p.ID] {
				t.Errorf("%s: panel %d %q has %d expressions", file, p.ID, p.Title, len(p.Targets))
			}
			ids[p.ID] = true
			for _, target := range p.Targets {
				expression(t, all, file+", "+p.Title, target.Expr)
			}
		}
		for _, v := range d.Templating.List {
			if selector, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
				i := strings.LastIndex(selector, ",")
				expression(t, all, file+", variable "+v.Name, selector[:i])
			}
		}
	}
	t.Log(slices.Sorted(maps.Keys(uids)))
}

// TestAlerts: the same of config/prometheus/alerts.yaml, and every alert says what to do.
func TestAlerts(t *testing.T) {
	all := known(t)
	text, err := os.ReadFile("../../config/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%q: a name of its own, a severity, a summary and a description are needed", r.Alert)
			}
			seen[r.Alert] = true
			expression(t, all, r.Alert, r.Expr)
		}
	}
	if len(seen) == 0 {
		t.Error("there are no alerts")
	}
}
