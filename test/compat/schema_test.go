package compat

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/config"
)

func publicCRDs(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, noun := range []string{"configuration", "domain-mapping", "revision", "route", "service"} {
		text, err := os.ReadFile(filepath.Join(public(t), "config/core/300-resources", noun+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(text, crd); err != nil {
			t.Fatal(err)
		}
		crds[crd.Spec.Names.Kind] = crd
	}
	return crds
}

func ourCRDs(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	list, err := config.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, crd := range list {
		if crd.Spec.Group == v1.GroupVersion.Group {
			crds[crd.Spec.Names.Kind] = crd
		}
	}
	return crds
}

// TestSchemas compares names, columns and the paths of both schemas with their types.
// The fields of a pod's spec are left out: ours keeps whatever Kubernetes knows.
func TestSchemas(t *testing.T) {
	ours := ourCRDs(t)
	for kind, theirs := range publicCRDs(t) {
		t.Run(kind, func(t *testing.T) {
			crd := ours[kind]
			if crd == nil {
				t.Fatal("missing")
			}
			names := func(n apiextensionsv1.CustomResourceDefinitionNames) any {
				return []any{n.Plural, n.Singular, n.Kind, slices.Sorted(slices.Values(n.ShortNames)), n.Categories}
			}
			if diff := cmp.Diff(names(theirs.Spec.Names), names(crd.Spec.Names)); diff != "" {
				t.Errorf("names (-public +ours):\n%s", diff)
			}
			columns := func(c *apiextensionsv1.CustomResourceDefinition) (out []string) {
				for _, col := range c.Spec.Versions[0].AdditionalPrinterColumns {
					out = append(out, col.Name+" "+col.Type+" "+strings.ReplaceAll(col.JSONPath, `"`, "'"))
				}
				return out
			}
			if diff := cmp.Diff(columns(theirs), columns(crd)); diff != "" {
				t.Errorf("columns (-public +ours):\n%s", diff)
			}
			if diff := cmp.Diff(paths(theirs), paths(crd)); diff != "" {
				t.Errorf("schema (-public +ours):\n%s", diff)
			}
		})
	}
}

func paths(crd *apiextensionsv1.CustomResourceDefinition) map[string]string {
	all := map[string]string{}
	flatten("", crd.Spec.Versions[0].Schema.OpenAPIV3Schema, all)
	pod := "spec."
	if crd.Spec.Names.Kind == v1beta1.KindDomainMapping {
		pod = "\x00" // it has none
	}
	if kind := crd.Spec.Names.Kind; kind == v1.KindService || kind == v1.KindConfiguration {
		pod = "spec.template.spec."
	}
	limits := []string{"containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"}
	maps.DeleteFunc(all, func(path, _ string) bool {
		if rest, ok := strings.CutPrefix(path, pod); ok && crd.Spec.Names.Kind != v1.KindRoute {
			return !slices.Contains(limits, rest)
		}
		// What every object has, and what the public schema lists of a template's metadata.
		return strings.HasPrefix(path, "metadata") || strings.HasPrefix(path, "spec.template.metadata.")
	})
	return all
}

func flatten(path string, s *apiextensionsv1.JSONSchemaProps, into map[string]string) {
	if path != "" {
		into[path] = s.Type
	}
	for name := range s.Properties {
		child := s.Properties[name]
		flatten(strings.TrimPrefix(path+"."+name, "."), &child, into)
	}
	if s.Items != nil && s.Items.Schema != nil {
		flatten(path+"[]", s.Items.Schema, into)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		into[path+"{}"] = s.AdditionalProperties.Schema.Type
	}
}

// TestFixtures takes each file of testdata through our Go type and through the public one
// and checks that nothing is lost, and that both schemas keep all of what ours writes.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d fixtures, err %v", len(files), err)
	}
	theirs, ours := publicCRDs(t), ourCRDs(t)
	types, publicTypes := map[string]func() runtime.Object{}, map[string]func() runtime.Object{}
	for _, k := range kinds() {
		types[k.name], publicTypes[k.name] = k.ours, k.public
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := yaml.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			kind, _ := want["kind"].(string)
			into := types[kind]()
			if err := yaml.UnmarshalStrict(text, into); err != nil {
				t.Fatal(err)
			}
			written, err := json.Marshal(into)
			if err != nil {
				t.Fatal(err)
			}
			sameAgain(t, written, publicTypes[kind]())
			read := func() (got map[string]any) {
				if err := json.Unmarshal(written, &got); err != nil {
					t.Fatal(err)
				}
				return got
			}
			if diff := cmp.Diff(tidy(want), tidy(read())); diff != "" {
				t.Errorf("what the file says and our type does not write (-file +ours):\n%s", diff)
			}
			for who, crd := range map[string]*apiextensionsv1.CustomResourceDefinition{"public": theirs[kind], "our": ours[kind]} {
				pruned := read()
				lost := pruning.PruneWithOptions(pruned, structural(t, crd), true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
				if len(lost) > 0 {
					t.Errorf("the %s schema drops %v", who, lost)
				}
			}
		})
	}
}

func structural(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) *schema.Structural {
	t.Helper()
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, internal, nil); err != nil {
		t.Fatal(err)
	}
	s, err := schema.NewStructural(internal)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tidy leaves out what says nothing: null, {} and "".
func tidy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			if m = tidy(m); m == nil {
				delete(v, k)
			} else {
				v[k] = m
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = tidy(v[i])
		}
	case string:
		if v == "" {
			return nil
		}
	}
	return v
}
