package envoy_test

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/test/golden"
)

// world is the input of one golden test.
type world struct {
	Listeners  []ir.Listener           `json:"listeners"`
	Routes     []ir.Route              `json:"routes"`
	Clusters   []ir.Cluster            `json:"clusters"`
	Endpoints  []ir.Endpoints          `json:"endpoints"`
	Holds      []ir.Hold               `json:"holds"`
	Bootstraps []envoy.BootstrapConfig `json:"bootstraps"`
	Collectors []ir.Tracing            `json:"collectors"`
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
	golden.Run(t, "testdata", func(w world) (any, error) { return encodeWorld(t, w), nil })
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
		scopes, err := envoy.Scopes(r)
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
	for _, c := range w.Collectors {
		m, err := envoy.Collector(c)
		add(&e.Clusters, m, err)
	}
	for _, h := range w.Holds {
		made, err := envoy.Hold(h)
		if err != nil {
			e.Errors = append(e.Errors, err.Error())
			continue
		}
		add(&e.Listeners, made.Listener, nil)
		add(&e.Clusters, made.Cluster, nil)
		add(&e.Endpoints, made.Endpoints, nil)
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
