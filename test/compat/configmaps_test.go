package compat

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/settings"
)

// TestConfigMaps takes the ConfigMaps of the public release, with what their examples
// show set, all of it and each key alone: none is unknown and none refused.
func TestConfigMaps(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(public(t), "config/core/configmaps/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// config-network is of another module, which is here at an older version.
	networking, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "knative.dev/networking").Output()
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join(strings.TrimSpace(string(networking)), "config/config-network.yaml"))
	seen := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var m corev1.ConfigMap
		if err := yaml.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(settings.Names(), m.Name) {
			continue
		}
		var example map[string]string
		if err := yaml.Unmarshal([]byte(m.Data["_example"]), &example); err != nil {
			t.Fatal(err)
		}
		seen[m.Name] = len(example)
		all := maps.Clone(example)
		maps.Copy(all, m.Data)
		if _, err := settings.Default().With(m.Name, all); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		for key, value := range example {
			if _, err := settings.Default().With(m.Name, map[string]string{key: value}); err != nil {
				t.Errorf("%s with %s alone: %v", m.Name, key, err)
			}
		}
	}
	t.Logf("keys: %v", seen)
	for _, name := range settings.Names() {
		if seen[name] == 0 && !strings.HasPrefix(name, "config-ebb-") { // those are Ebb's own
			t.Errorf("%s has no example", name)
		}
	}
}
