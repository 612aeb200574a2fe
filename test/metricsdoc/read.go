package metricsdoc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// Metric is a row of the page.
type Metric struct {
	Type   string   // counter, gauge or histogram
	Labels []string // sorted
}

var row = regexp.MustCompile("^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\|([^|]*)\\| [^|]+ \\|$")

// Read returns the rows below the heading "## section".
func Read(t testing.TB, section string) map[string]Metric {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Metric{}
	inside := false
	for line := range bytes.Lines(text) {
		line := strings.TrimSpace(string(line))
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			inside = heading == section
		}
		if !inside || !strings.HasPrefix(line, "| `") {
			continue
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("docs/metrics.md: %q is not a row of name, type, labels and meaning", line)
			continue
		}
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return strings.ContainsRune(" ,`", r) })
		slices.Sort(labels)
		all[m[1]] = Metric{m[2], labels}
	}
	if len(all) == 0 {
		t.Fatalf("docs/metrics.md has no rows below %q", "## "+section)
	}
	return all
}

// Compare fails the test where the page and the families differ in a name that begins with
// the prefix, in its type or in its labels.
func Compare(t testing.TB, section, prefix string, families []*dto.MetricFamily) {
	t.Helper()
	listed, have := Read(t, section), map[string]Metric{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) || len(f.GetMetric()) == 0 {
			continue
		}
		m := Metric{Type: strings.ToLower(f.GetType().String())}
		for _, l := range f.GetMetric()[0].GetLabel() {
			m.Labels = append(m.Labels, l.GetName())
		}
		slices.Sort(m.Labels)
		have[f.GetName()] = m
	}
	for name, m := range have {
		if want, ok := listed[name]; !ok {
			t.Errorf("docs/metrics.md does not list %s: add | `%s` | %s | %s | … | below ## %s", name, name, m.Type, strings.Join(m.Labels, ", "), section)
		} else if fmt.Sprint(want) != fmt.Sprint(m) {
			t.Errorf("docs/metrics.md says of %s %+v, and it is %+v", name, want, m)
		}
	}
	for name := range listed {
		if _, ok := have[name]; !ok && strings.HasPrefix(name, prefix) {
			t.Errorf("docs/metrics.md lists %s below ## %s, which does not exist", name, section)
		}
	}
}
