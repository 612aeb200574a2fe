package envoy_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
)

var update = flag.Bool("update", false, "write the golden files anew and delete those without an input")

// world is the input of one golden test.
type world struct {
	Listeners  []ir.Listener           `json:"listeners"`
	Routes     []ir.Route              `json:"routes"`
	Generation string                  `json:"generation"`
	Clusters   []ir.Cluster            `json:"clusters"`
	Endpoints  []ir.Endpoints          `json:"endpoints"`
	Bootstraps []envoy.BootstrapConfig `json:"bootstraps"`
}

// encoded is everything that is made of it.
type encoded struct {
	Listeners  []json.RawMessage `json:"listeners,omitempty"`
	Scopes     []json.RawMessage `json:"scopes,omitempty"`
	Routes     []json.RawMessage `json:"routes,omitempty"`
	Clusters   []json.RawMessage `json:"clusters,omitempty"`
	Endpoints  []json.RawMessage `json:"endpoints,omitempty"`
	Bootstraps []json.RawMessage `json:"bootstraps,omitempty"`
	Errors     []string          `json:"errors,omitempty"`
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no inputs", err)
	}
	wanted := map[string]bool{}
	for _, input := range inputs {
		output := strings.TrimSuffix(input, ".in.yaml") + ".out.yaml"
		wanted[output] = true
		t.Run(filepath.Base(input), func(t *testing.T) {
			got, err := yaml.Marshal(encodeWorld(t, readWorld(t, input)))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(output, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(output)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got; -update writes it anew):\n%s", output, diff)
			}
		})
	}
	outputs, err := filepath.Glob("testdata/*.out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, output := range outputs {
		if wanted[output] {
			continue
		}
		if !*update {
			t.Errorf("%s has no input; -update deletes it", output)
		} else if err := os.Remove(output); err != nil {
			t.Error(err)
		}
	}
}

func readWorld(t testing.TB, file string) world {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var w world
	if err := yaml.UnmarshalStrict(text, &w); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return w
}

func encodeWorld(t *testing.T, w world) encoded {
	t.Helper()
	var e encoded
	add := func(into *[]json.RawMessage, m proto.Message, err error) {
		t.Helper()
		if err != nil {
			e.Errors = append(e.Errors, err.Error())
			return
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		*into = append(*into, text)
	}
	for _, l := range w.Listeners {
		m, err := envoy.Listener(l)
		add(&e.Listeners, m, err)
	}
	for _, r := range w.Routes {
		scopes, err := envoy.Scopes(r, w.Generation)
		if err != nil {
			e.Errors = append(e.Errors, err.Error())
		}
		for _, s := range scopes {
			add(&e.Scopes, s, nil)
		}
		m, err := envoy.RouteConfiguration(r)
		add(&e.Routes, m, err)
	}
	for _, c := range w.Clusters {
		m, err := envoy.Cluster(c)
		add(&e.Clusters, m, err)
	}
	for _, p := range w.Endpoints {
		m, err := envoy.ClusterLoadAssignment(p)
		add(&e.Endpoints, m, err)
	}
	for _, b := range w.Bootstraps {
		text, err := envoy.Bootstrap(b)
		if err != nil {
			e.Errors = append(e.Errors, err.Error())
			continue
		}
		if text, err = yaml.YAMLToJSON(text); err != nil {
			t.Fatal(err)
		}
		e.Bootstraps = append(e.Bootstraps, text)
	}
	return e
}
