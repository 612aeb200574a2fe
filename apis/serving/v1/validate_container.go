package v1

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// reservedEnv are the variables that Ebb sets in the container that serves.
func reservedEnv() []string {
	return []string{"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"}
}

func validateContainer(c *corev1.Container, serves bool, names, volumes map[string]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if wrong := validation.IsDNS1123Label(c.Name); len(wrong) > 0 {
		errs = append(errs, field.Invalid(at.Child("name"), c.Name, wrong[0]))
	} else if names[c.Name] {
		errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
	}
	names[c.Name] = true
	if c.Image == "" {
		errs = append(errs, field.Required(at.Child("image"), "name the image to run"))
	} else if _, err := name.ParseReference(c.Image, name.WeakValidation); err != nil {
		errs = append(errs, field.Invalid(at.Child("image"), c.Image, "is not a reference like registry/repository:tag or …@sha256:…"))
	}
	if c.Lifecycle != nil {
		errs = append(errs, field.Forbidden(at.Child("lifecycle"), "Ebb itself ends pods when their last request is done; handle SIGTERM in the program"))
	}
	errs = append(errs, validateEnv(c, serves, at)...)
	errs = append(errs, validateResources(c.Resources, at.Child("resources"))...)
	return append(errs, validateMounts(c.VolumeMounts, volumes, at.Child("volumeMounts"))...)
}

func validateEnv(c *corev1.Container, serves bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range c.Env {
		e, env := &c.Env[i], at.Child("env").Index(i)
		switch {
		case e.Name == "":
			errs = append(errs, field.Required(env.Child("name"), ""))
		case slices.Contains(reservedEnv(), e.Name) && (e.Name != "PORT" || serves):
			errs = append(errs, field.Forbidden(env.Child("name"), fmt.Sprintf("%s is set by Ebb", e.Name)))
		default:
			for _, wrong := range validation.IsRelaxedEnvVarName(e.Name) {
				errs = append(errs, field.Invalid(env.Child("name"), e.Name, wrong))
			}
		}
		if e.ValueFrom == nil {
			continue
		}
		if e.Value != "" {
			errs = append(errs, field.Forbidden(env.Child("valueFrom"), "give either value or valueFrom"))
		}
		from := env.Child("valueFrom")
		sources := 0
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			sources++
			errs = append(errs, required(from.Child("configMapKeyRef"), "name", r.Name, "key", r.Key)...)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			sources++
			errs = append(errs, required(from.Child("secretKeyRef"), "name", r.Name, "key", r.Key)...)
		}
		if r := e.ValueFrom.FieldRef; r != nil {
			sources++
			errs = append(errs, required(from.Child("fieldRef"), "fieldPath", r.FieldPath)...)
		}
		if r := e.ValueFrom.ResourceFieldRef; r != nil {
			sources++
			errs = append(errs, required(from.Child("resourceFieldRef"), "resource", r.Resource)...)
		}
		if r := e.ValueFrom.FileKeyRef; r != nil {
			sources++
		}
		if sources != 1 {
			errs = append(errs, field.Invalid(from, "", "must have exactly one source"))
		}
	}
	for i := range c.EnvFrom {
		e, from := &c.EnvFrom[i], at.Child("envFrom").Index(i)
		switch {
		case (e.ConfigMapRef == nil) == (e.SecretRef == nil):
			errs = append(errs, field.Invalid(from, "", "must have exactly one of configMapRef and secretRef"))
		case e.ConfigMapRef != nil:
			errs = append(errs, required(from.Child("configMapRef"), "name", e.ConfigMapRef.Name)...)
		default:
			errs = append(errs, required(from.Child("secretRef"), "name", e.SecretRef.Name)...)
		}
	}
	return errs
}

// required takes pairs of a field's name and its value.
func required(at *field.Path, pairs ...string) field.ErrorList {
	var errs field.ErrorList
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			errs = append(errs, field.Required(at.Child(pairs[i]), ""))
		}
	}
	return errs
}

func validateResources(r corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		name    string
		amounts corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		for _, key := range slices.Sorted(maps.Keys(list.amounts)) {
			amount := list.amounts[key]
			where := at.Child(list.name).Key(string(key))
			if amount.Sign() < 0 {
				errs = append(errs, field.Invalid(where, amount.String(), "must be 0 or more"))
			}
			if limit, ok := r.Limits[key]; ok && list.name == "requests" && amount.Cmp(limit) > 0 {
				errs = append(errs, field.Invalid(where, amount.String(), fmt.Sprintf("is above the limit %s", limit.String())))
			}
		}
	}
	return errs
}

// validateVolumes returns the names of the volumes, and what is wrong with them.
func validateVolumes(volumes []corev1.Volume, at *field.Path) (map[string]bool, field.ErrorList) {
	names := map[string]bool{}
	var errs field.ErrorList
	for i := range volumes {
		v := &volumes[i]
		if wrong := validation.IsDNS1123Label(v.Name); len(wrong) > 0 {
			errs = append(errs, field.Invalid(at.Index(i).Child("name"), v.Name, wrong[0]))
		} else if names[v.Name] {
			errs = append(errs, field.Duplicate(at.Index(i).Child("name"), v.Name))
		}
		names[v.Name] = true
		if set := sources(&v.VolumeSource); len(set) > 1 {
			errs = append(errs, field.Forbidden(at.Index(i).Child(set[1]), fmt.Sprintf("the volume is of %s already; give one", set[0])))
		}
	}
	return names, errs
}

// sources lists the kinds that a volume says it is of, in the order of their fields.
func sources(v *corev1.VolumeSource) []string {
	var set []string
	value := reflect.ValueOf(v).Elem()
	for i := range value.NumField() {
		if f := value.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			set = append(set, name)
		}
	}
	return set
}

func validateMounts(mounts []corev1.VolumeMount, volumes map[string]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := map[string]bool{}
	for i := range mounts {
		m := &mounts[i]
		switch {
		case m.Name == "":
			errs = append(errs, field.Required(at.Index(i).Child("name"), ""))
		case !volumes[m.Name]:
			errs = append(errs, field.NotFound(at.Index(i).Child("name"), m.Name))
		}
		clean := path.Clean(m.MountPath)
		switch {
		case !strings.HasPrefix(m.MountPath, "/"):
			errs = append(errs, field.Invalid(at.Index(i).Child("mountPath"), m.MountPath, "must be an absolute path"))
		case clean == "/":
			errs = append(errs, field.Invalid(at.Index(i).Child("mountPath"), m.MountPath, "would hide the image"))
		case paths[clean]:
			errs = append(errs, field.Duplicate(at.Index(i).Child("mountPath"), m.MountPath))
		}
		paths[clean] = true
	}
	return errs
}

// namedProbe is a probe by the name of its field.
type namedProbe struct {
	name  string
	probe *corev1.Probe // nil where there is none
}

func probesOf(c *corev1.Container) []namedProbe {
	return []namedProbe{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}}
}

// validateProbePort checks that a probe which names its port names one of the container.
func validateProbePort(c *corev1.Container, p *corev1.Probe, path *field.Path) field.ErrorList {
	check := func(port intstr.IntOrString, at *field.Path) field.ErrorList {
		if port.Type != intstr.String || port.StrVal == "" {
			return nil
		}
		var names []string
		for i := range c.Ports {
			if c.Ports[i].Name == port.StrVal {
				return nil
			}
			if c.Ports[i].Name != "" {
				names = append(names, c.Ports[i].Name)
			}
		}
		if len(names) == 0 {
			return field.ErrorList{field.Invalid(at, port.StrVal, "names no port of the container; leave it out for the port that takes the requests, or give a number")}
		}
		return field.ErrorList{field.NotSupported(at, port.StrVal, names)}
	}
	switch {
	case p.HTTPGet != nil:
		return check(p.HTTPGet.Port, path.Child("httpGet", "port"))
	case p.TCPSocket != nil:
		return check(p.TCPSocket.Port, path.Child("tcpSocket", "port"))
	}
	return nil
}

// validateProbes checks the probes of a container; serves says that it takes the requests.
func validateProbes(c *corev1.Container, serves bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, p := range probesOf(c) {
		if p.probe == nil {
			continue
		}
		path := at.Child(p.name)
		set := handlers(p.probe)
		switch {
		case len(set) > 1:
			errs = append(errs, field.Forbidden(path.Child(set[1]), fmt.Sprintf("the probe has %s already; give one", set[0])))
		case len(set) == 0 && (p.name != "readinessProbe" || !serves):
			errs = append(errs, field.Required(path, "give one of exec, grpc, httpGet, tcpSocket"))
		default:
			errs = append(errs, validateProbePort(c, p.probe, path)...)
		}
		for _, n := range []struct {
			name  string
			value int32
		}{
			{"failureThreshold", p.probe.FailureThreshold},
			{"initialDelaySeconds", p.probe.InitialDelaySeconds},
			{"periodSeconds", p.probe.PeriodSeconds},
			{"successThreshold", p.probe.SuccessThreshold},
			{"timeoutSeconds", p.probe.TimeoutSeconds},
		} {
			if n.value < 0 {
				errs = append(errs, field.Invalid(path.Child(n.name), n.value, "must be 0 or more"))
			}
		}
		if p.name != "readinessProbe" && p.probe.SuccessThreshold > 1 {
			errs = append(errs, field.Invalid(path.Child("successThreshold"), p.probe.SuccessThreshold, "must be 1"))
		}
		if p.probe.TerminationGracePeriodSeconds != nil {
			errs = append(errs, field.Forbidden(path.Child("terminationGracePeriodSeconds"), "follows from timeoutSeconds"))
		}
	}
	return errs
}
