package v1

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// ValidateHostAnnotations checks the annotations that say how a host is served, of a
// Route, the Service it is made from, or a DomainMapping.
func ValidateHostAnnotations(have map[string]string, path *field.Path) field.ErrorList {
	errs := oneOf(have, path, serving.DisableExternalDomainTLSAnnotation, "true", "false")
	for _, key := range serving.HTTPProtocolAnnotations() {
		if v, ok := have[key]; ok && !strings.EqualFold(v, settings.Enabled) && !strings.EqualFold(v, settings.Redirected) {
			errs = append(errs, field.NotSupported(path.Key(key), v, []string{settings.Enabled, settings.Redirected}))
		}
	}
	return errs
}
