package admission

import (
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func TestSettingsValidator(t *testing.T) {
	for _, c := range []struct {
		name    string
		data    map[string]string
		refused string // part of the message; "" is allowed
	}{
		{"config-autoscaler", map[string]string{"stable-window": "30s"}, ""},
		{"config-autoscaler", map[string]string{"stable-window": "soon"}, "stable-window"},
		{"config-domain", map[string]string{"example.com": ""}, ""},
		{"somebody-elses", map[string]string{"stable-window": "soon"}, ""},
	} {
		raw, err := json.Marshal(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: c.name}, Data: c.data})
		if err != nil {
			t.Fatal(err)
		}
		got := SettingsValidator().Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
			Name: c.name, Operation: admissionv1.Update, Object: runtime.RawExtension{Raw: raw},
		}})
		if got.Allowed != (c.refused == "") || !strings.Contains(got.Result.Message, c.refused) {
			t.Errorf("%s %v: allowed %v, %q", c.name, c.data, got.Allowed, got.Result.Message)
		}
	}
}
