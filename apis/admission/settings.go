package admission

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"ebb.dev/ebb/apis/settings"
)

// SettingsPath is where ConfigMaps with settings are checked.
const SettingsPath = "/admission/settings"

// SettingsValidator is the handler that refuses a ConfigMap with settings that do not
// parse, naming each bad key. It lets other ConfigMaps pass. A ConfigMap that was stored
// without being asked about, because nobody could be asked, is met by the last good settings.
func SettingsValidator() admission.Handler {
	return admission.HandlerFunc(func(_ context.Context, req admission.Request) admission.Response {
		if req.Operation == admissionv1.Delete || !slices.Contains(settings.Names(), req.Name) {
			return admission.Allowed("")
		}
		var m corev1.ConfigMap
		if err := json.Unmarshal(req.Object.Raw, &m); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if _, err := settings.Default().With(m.Name, m.Data); err != nil {
			return admission.Denied(err.Error())
		}
		return admission.Allowed("")
	})
}
