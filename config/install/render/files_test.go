package render_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/config/install"
	"ebb.dev/ebb/config/install/render"
)

// TestFilesAreCurrent: the files of config/ are those that `make generate` writes, and there are no others beside them.
func TestFilesAreCurrent(t *testing.T) {
	files, err := render.Generated()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("config/%s is not current (%v): run make generate", name, err)
		}
	}
	for _, pattern := range []string{"base/*.yaml", "chart/templates/*.yaml"} {
		there, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range there {
			name, _ := filepath.Rel("../..", path)
			if files[filepath.ToSlash(name)] == nil {
				t.Errorf("config/%s is made by nothing: run make generate", name)
			}
		}
	}
}

// TestChartValues: the chart's values.yaml is the Go defaults, key by key.
func TestChartValues(t *testing.T) {
	text, err := os.ReadFile("../../chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var have install.Values
	if err := yaml.UnmarshalStrict(text, &have); err != nil {
		t.Fatal(err)
	}
	a, err := yaml.Marshal(have)
	if err != nil {
		t.Fatal(err)
	}
	b, err := yaml.Marshal(install.Default())
	if err != nil {
		t.Fatal(err)
	}
	// Empty lists and maps are written out there for who reads them.
	for _, empty := range [][]byte{[]byte("[]"), []byte("{}")} {
		a, b = bytes.ReplaceAll(a, empty, []byte("null")), bytes.ReplaceAll(b, empty, []byte("null"))
	}
	if !bytes.Equal(a, b) {
		t.Errorf("values.yaml:\n%s\ninstall.Default():\n%s", a, b)
	}
}

// TestChartSettings: the chart's schema knows the ConfigMaps that there are.
func TestChartSettings(t *testing.T) {
	text, err := os.ReadFile("../../chart/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Settings struct{ Properties map[string]any }
		}
	}
	if err := yaml.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if have := slices.Sorted(maps.Keys(schema.Properties.Settings.Properties)); !slices.Equal(have, slices.Sorted(slices.Values(settings.Names()))) {
		t.Errorf("%v, and there are %v", have, settings.Names())
	}
}
