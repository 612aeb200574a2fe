package admission_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/apis/settings"
)

// FuzzAdmission sends whatever JSON through both webhooks: it is refused with a word why,
// or admitted, and then admitted again as it is.
func FuzzAdmission(f *testing.F) {
	f.Add("Service", asJSON(f, hello))
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		raw := asJSON(f, string(text))
		f.Add(request(admissionv1.Create, "", raw, nil).Kind.Kind, raw)
	}
	f.Add("DomainMapping", []byte(`{"apiVersion":"serving.knative.dev/v1beta1","kind":"DomainMapping","metadata":{"name":"www.example.com"},"spec":{"ref":{"kind":"Service","name":"a","apiVersion":"serving.knative.dev/v1"}}}`))
	store := settings.NewStore()
	f.Fuzz(func(t *testing.T, kind string, raw []byte) {
		req := request(admissionv1.Create, "ann", raw, nil)
		if req.Kind.Kind == "" {
			req.Kind = metav1.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: kind}
		}
		if kind == "ConfigMap" {
			answer := admission.SettingsValidator().Handle(t.Context(), req)
			if !answer.Allowed && answer.Result.Message == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		first := admission.Mutator(store).Handle(t.Context(), req)
		if !first.Allowed {
			if first.Result.Message == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatal("what is no JSON is admitted")
		}
		stored, refusal := admit(t, store, req)
		if stored == nil {
			if refusal == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		req.Object.Raw, req.OldObject.Raw, req.Operation = stored, stored, admissionv1.Update
		again, refusal := admit(t, store, req)
		if again == nil {
			t.Fatalf("as it was stored it is refused: %s\n%s", refusal, stored)
		}
		if string(again) != string(stored) {
			t.Fatalf("an update of nothing makes\n%s\nof\n%s", again, stored)
		}
	})
}
