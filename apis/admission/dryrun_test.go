package admission_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// TestDryRun: when the API server is asked, and what its answers do.
func TestDryRun(t *testing.T) {
	denied := errors.New(`pods "x" is forbidden: exceeded quota`)
	silent := fmt.Errorf("%w: timeout", admission.ErrNoAnswer)
	for _, c := range []struct {
		name, mode, feature string
		answer              error
		asked, admitted     bool
	}{
		{"nobody wants it", "", "", denied, false, true},
		{"the object wants it", serving.DryRunEnabled, "", denied, true, false},
		{"and it is possible", serving.DryRunEnabled, "", nil, true, true},
		{"no answer", serving.DryRunEnabled, "", silent, true, true},
		{"no answer, strictly", serving.DryRunStrict, "", silent, true, false},
		{"the settings want it", "", "Enabled", denied, true, false},
		{"the settings want it, no answer", "", "Enabled", silent, true, true},
		{"the settings forbid it", serving.DryRunStrict, "Disabled", denied, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := settings.NewStore()
			if c.feature != "" {
				if err := store.Update(settings.ConfigFeatures, map[string]string{settings.FeatureDryRun: c.feature}); err != nil {
					t.Fatal(err)
				}
			}
			text := hello
			if c.mode != "" {
				text = strings.Replace(text, "name: hello,", "name: hello, annotations: {"+serving.DryRunAnnotation+": "+c.mode+"},", 1)
			}
			stored, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, text), nil))
			if refusal != "" {
				t.Fatal(refusal)
			}
			asked := 0
			validator := admission.Validator(store, func(_ context.Context, rev *v1.Revision) error {
				asked++
				if rev.Namespace != "default" || rev.Spec.Containers[0].Image != "example.com/hello:v1" {
					t.Errorf("asked about %+v", rev)
				}
				return c.answer
			})
			response := validator.Handle(t.Context(), request(admissionv1.Create, "ann", stored, nil))
			if (asked == 1) != c.asked || response.Allowed != c.admitted {
				t.Errorf("asked %d times, admitted %v", asked, response.Allowed)
			}
			if !response.Allowed && (!strings.Contains(response.Result.Message, "spec.template") || !strings.Contains(response.Result.Message, c.answer.Error())) {
				t.Errorf("refusal %q", response.Result.Message)
			}
			// The same template again is not asked about.
			labelled := []byte(strings.Replace(string(stored), `"name":"hello"`, `"labels":{"a":"b"},"name":"hello"`, 1))
			before := asked
			if response := validator.Handle(t.Context(), request(admissionv1.Update, "ann", labelled, stored)); !response.Allowed || asked != before {
				t.Errorf("a label: asked %d times more, %v", asked-before, response.Result)
			}
		})
	}
}
