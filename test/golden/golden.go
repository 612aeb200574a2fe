package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew and delete those without an input")

// Run runs convert on every input in dir, each strictly decoded into an In, and compares
// its result, as YAML, with the output file of the same name. An error is compared as
// the text "error: …".
func Run[In any](t *testing.T, dir string, convert func(In) (any, error)) {
	t.Helper()
	inputs, err := filepath.Glob(filepath.Join(dir, "*.in.yaml"))
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs %s/*.in.yaml (%v)", dir, err)
	}
	for _, path := range inputs {
		base := strings.TrimSuffix(path, ".in.yaml")
		t.Run(filepath.Base(base), func(t *testing.T) {
			compare(t, base+".out.yaml", result(t, path, convert))
		})
	}
	stale(t, dir)
}

func result[In any](t *testing.T, path string, convert func(In) (any, error)) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var in In
	if err := yaml.UnmarshalStrict(raw, &in); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	out, err := convert(in)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update takes what was got):\n%s", path, diff)
	}
}

func stale(t *testing.T, dir string) {
	t.Helper()
	outputs, err := filepath.Glob(filepath.Join(dir, "*.out.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range outputs {
		if _, err := os.Stat(strings.TrimSuffix(path, ".out.yaml") + ".in.yaml"); err == nil {
			continue
		}
		if !*update {
			t.Errorf("%s has no input (-update deletes it)", path)
		} else if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}
