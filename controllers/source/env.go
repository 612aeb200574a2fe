package source

import (
	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/eventing/duck"
	"ebb.dev/ebb/controllers/sink"
)

// Names of the variables that containers find their sink in.
const (
	SinkVariable      = "K_SINK"
	OverridesVariable = "K_CE_OVERRIDES"
	CACertsVariable   = "K_CA_CERTS"
)

// Env is the variables of a sink.
func Env(a sink.Address, overrides *duck.CloudEventOverrides) []corev1.EnvVar {
	env := []corev1.EnvVar{{Name: SinkVariable, Value: a.URL}, {Name: OverridesVariable, Value: Overrides(overrides)}}
	if a.CACerts != nil {
		env = append(env, corev1.EnvVar{Name: CACertsVariable, Value: *a.CACerts})
	}
	return env
}

// With is the variables of a container without those of a sink, and then these.
func With(have, env []corev1.EnvVar) []corev1.EnvVar {
	var out []corev1.EnvVar
	for _, v := range have {
		if v.Name != SinkVariable && v.Name != OverridesVariable && v.Name != CACertsVariable {
			out = append(out, v)
		}
	}
	return append(out, env...)
}
