package config_test

import (
	"slices"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/config"
)

func TestCRDs(t *testing.T) {
	crds, err := config.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		shortNames []string
		columns    []string
	}{
		"configurations.serving.knative.dev": {[]string{"config", "cfg"}, []string{"LatestCreated", "LatestReady", "Ready", "Reason"}},
		"domainmappings.serving.knative.dev": {[]string{"dm"}, []string{"URL", "Ready", "Reason"}},
		"revisions.serving.knative.dev":      {[]string{"rev"}, []string{"Config Name", "Generation", "Ready", "Reason", "Actual Replicas", "Desired Replicas"}},
		"routes.serving.knative.dev":         {[]string{"rt"}, []string{"URL", "Ready", "Reason"}},
		"services.serving.knative.dev":       {[]string{"kservice", "ksvc"}, []string{"URL", "LatestCreated", "LatestReady", "Ready", "Reason"}},
	}
	for _, crd := range crds {
		w, ok := want[crd.Name]
		if !ok {
			continue
		}
		delete(want, crd.Name)
		if !slices.Equal(crd.Spec.Names.ShortNames, w.shortNames) {
			t.Errorf("%s: short names %v, want %v", crd.Name, crd.Spec.Names.ShortNames, w.shortNames)
		}
		if c := crd.Spec.Names.Categories; !slices.Equal(c, []string{"all", "knative", "serving"}) {
			t.Errorf("%s: categories %v", crd.Name, c)
		}
		v := crd.Spec.Versions[0]
		var columns []string
		for _, c := range v.AdditionalPrinterColumns {
			columns = append(columns, c.Name)
		}
		if !slices.Equal(columns, w.columns) {
			t.Errorf("%s: columns %v, want %v", crd.Name, columns, w.columns)
		}
		if v.Subresources == nil || v.Subresources.Status == nil {
			t.Errorf("%s: no status subresource", crd.Name)
		}
		structuralSchema(t, crd.Name, &v)
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}

// structuralSchema checks that the schema is structural: the API server prunes and applies by it.
func structuralSchema(t *testing.T, name string, v *apiextensionsv1.CustomResourceDefinitionVersion) {
	t.Helper()
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(internal)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if errs := schema.ValidateStructural(field.NewPath("schema"), structural); len(errs) > 0 {
		t.Errorf("%s: %v", name, errs.ToAggregate())
	}
}
