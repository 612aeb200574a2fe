package translate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/test/golden"
)

// scene is the input of one golden test.
type scene struct {
	// Settings are ConfigMaps by name.
	Settings   map[string]map[string]string `json:"settings"`
	Routes     []v1.Route                   `json:"routes"`
	Revisions  []v1.Revision                `json:"revisions"`
	Pods       []*corev1.Pod                `json:"pods"`
	Draining   []string                     `json:"draining"`
	Activators []ir.Endpoint                `json:"activators"`
	// DomainMappings lead to Routes of the scene.
	DomainMappings []v1beta1.DomainMapping `json:"domainMappings"`
	// Secure are the hosts that have a certificate.
	Secure []string `json:"secure"`
}

// result is everything that translation makes of it.
type result struct {
	Routes    []ir.Route       `json:"routes,omitempty"`
	Errors    []string         `json:"errors,omitempty"`
	Revisions []revisionResult `json:"revisions,omitempty"`

	DomainMappings []ir.Route `json:"domainMappings,omitempty"`
}

type revisionResult struct {
	Direct     bool            `json:"direct"`
	Cluster    ir.Cluster      `json:"cluster"`
	Endpoints  ir.Endpoints    `json:"endpoints"`
	Assignment json.RawMessage `json:"assignment"`
}

func TestGolden(t *testing.T) {
	golden.Run(t, "testdata", func(s scene) (any, error) { return translateScene(t, s) })
}

func translateScene(t *testing.T, s scene) (result, error) {
	t.Helper()
	current := settings.Default()
	var err error
	for name, data := range s.Settings {
		if current, err = current.With(name, data); err != nil {
			return result{}, err
		}
	}
	var r result
	lookup := func(name string) *v1.Revision {
		for i := range s.Revisions {
			if s.Revisions[i].Name == name {
				return &s.Revisions[i]
			}
		}
		return nil
	}
	secure := func(host string) bool { return slices.Contains(s.Secure, host) }
	for i := range s.Routes {
		route, err := translate.Route(&s.Routes[i], lookup, secure, current)
		if err != nil {
			var missing *translate.MissingRevisionError
			text := err.Error()
			if errors.As(err, &missing) {
				text = "missing: " + text
			}
			r.Errors = append(r.Errors, text)
			continue
		}
		r.Routes = append(r.Routes, route)
	}
	for i := range s.DomainMappings {
		m := &s.DomainMappings[i]
		var target *ir.Route
		for j := range r.Routes {
			if r.Routes[j].Owner == translate.RouteOwner(translate.DomainMappingTarget(m).Namespace, translate.DomainMappingTarget(m).Name) {
				target = &r.Routes[j]
			}
		}
		route, err := translate.DomainMapping(m, target, secure, current)
		if err != nil {
			r.Errors = append(r.Errors, m.Name+": "+err.Error())
			continue
		}
		r.DomainMappings = append(r.DomainMappings, route)
	}
	draining := func(pod string) bool {
		for _, d := range s.Draining {
			if d == pod {
				return true
			}
		}
		return false
	}
	for i := range s.Revisions {
		rev := &s.Revisions[i]
		subset := translate.Subset(rev, translate.Places(rev, s.Pods, current), s.Activators)
		r.Revisions = append(r.Revisions, revisionResult{
			Direct:     translate.Direct(rev, current),
			Cluster:    translate.Revision(rev),
			Endpoints:  translate.Endpoints(rev, s.Pods, subset, draining, current),
			Assignment: encode(t, translate.Assignment(rev, s.Pods, subset, draining, current)),
		})
	}
	return r, nil
}

func encode(t *testing.T, assignment *link.Revision) json.RawMessage {
	t.Helper()
	text, err := protojson.Marshal(assignment)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	return compact.Bytes()
}

func TestListeners(t *testing.T) {
	outside, secure, inside := netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("0.0.0.0:443"), netip.MustParseAddrPort("[::]:8081")
	got := translate.Listeners(outside, secure, inside)
	want := []ir.Listener{
		{Name: "external", Address: outside, Audience: ir.External},
		{Name: "external-https", Address: secure, Audience: ir.External, TLS: true},
		{Name: "internal", Address: inside, Audience: ir.Internal},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if got := translate.Listeners(outside, netip.AddrPort{}, netip.AddrPort{}); len(got) != 1 {
		t.Errorf("without an internal address: %v", got)
	}
}
