package v1

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/settings"
)

// maxContainers bounds the containers, and likewise the init containers, of a Revision.
const maxContainers = 64

func (r *RevisionSpec) validate(st *settings.Settings, path *field.Path) field.ErrorList {
	errs := r.validateLimits(&st.Defaults, path)
	errs = append(errs, r.validatePod(st, path)...)
	errs = append(errs, r.validateFeatures(&st.Features, path)...)
	if len(r.Containers) > maxContainers {
		return append(errs, field.TooMany(path.Child("containers"), len(r.Containers), maxContainers))
	}
	if len(r.InitContainers) > maxContainers {
		return append(errs, field.TooMany(path.Child("initContainers"), len(r.InitContainers), maxContainers))
	}
	volumes, more := validateVolumes(r.Volumes, path.Child("volumes"))
	errs = append(errs, more...)
	names := map[string]bool{}
	containers := path.Child("containers")
	if len(r.Containers) == 0 {
		errs = append(errs, field.Required(containers, "name at least one container with an image"))
	}
	errs = append(errs, validatePorts(r.Containers, containers)...)
	for i := range r.Containers {
		c := &r.Containers[i]
		serves := len(r.Containers) == 1 || len(c.Ports) > 0
		errs = append(errs, validateContainer(c, serves, names, volumes, containers.Index(i))...)
		errs = append(errs, validateProbes(c, serves, containers.Index(i))...)
		if c.RestartPolicy != nil {
			errs = append(errs, field.Forbidden(containers.Index(i).Child("restartPolicy"), "a container is always restarted; an init container may say Always, and then runs beside the others"))
		}
	}
	for i := range r.InitContainers {
		c, at := &r.InitContainers[i], path.Child("initContainers").Index(i)
		errs = append(errs, validateContainer(c, false, names, volumes, at)...)
		errs = append(errs, validateInit(c, at)...)
	}
	return errs
}

// validateInit checks what an init container has of its own. One that is restarted always
// runs beside the others, and may be probed as they are.
func validateInit(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range c.Ports {
		port := at.Child("ports").Index(i)
		if number := c.Ports[i].ContainerPort; number < 1 || number > 65535 {
			errs = append(errs, field.Invalid(port.Child("containerPort"), number, "must be 1..65535"))
		}
		if name := c.Ports[i].Name; name != "" {
			for _, wrong := range validation.IsValidPortName(name) {
				errs = append(errs, field.Invalid(port.Child("name"), name, wrong))
			}
		}
	}
	if sidecar(c) {
		return append(errs, validateProbes(c, false, at)...)
	}
	if c.RestartPolicy != nil {
		errs = append(errs, field.NotSupported(at.Child("restartPolicy"), *c.RestartPolicy, []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyAlways}))
	}
	for _, p := range probesOf(c) {
		if p.probe != nil {
			errs = append(errs, field.Forbidden(at.Child(p.name), "an init container that ends is not probed; one with restartPolicy Always may be"))
		}
	}
	return errs
}

// sidecar says whether an init container runs beside the others.
func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// validateLimits checks what a request may take.
func (r *RevisionSpec) validateLimits(d *settings.Defaults, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seconds := func(name string, v *int64, most int64, what string) {
		if v != nil && (*v < 0 || *v > most) {
			errs = append(errs, field.Invalid(path.Child(name), *v, fmt.Sprintf("must be 0..%d, %s", most, what)))
		}
	}
	seconds("timeoutSeconds", r.TimeoutSeconds, d.MaxTimeoutSeconds, "the most that config-defaults allows")
	// Above timeoutSeconds these two never come, which is no error.
	seconds("responseStartTimeoutSeconds", r.ResponseStartTimeoutSeconds, math.MaxInt32, "seconds")
	seconds("idleTimeoutSeconds", r.IdleTimeoutSeconds, math.MaxInt32, "seconds")
	if c := r.ContainerConcurrency; c != nil {
		lowest := int64(0)
		if !d.AllowContainerConcurrencyZero {
			lowest = 1
		}
		if *c < lowest || *c > d.ContainerConcurrencyMaxLimit {
			errs = append(errs, field.Invalid(path.Child("containerConcurrency"), *c, fmt.Sprintf("must be %d..%d", lowest, d.ContainerConcurrencyMaxLimit)))
		}
	}
	return errs
}

// validatePod checks the fields of a pod that Ebb decides itself.
func (r *RevisionSpec) validatePod(_ *settings.Settings, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.RestartPolicy != "" && r.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), r.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if r.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("terminationGracePeriodSeconds"), "follows from timeoutSeconds, so that no request is cut; set that"))
	}
	if r.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("activeDeadlineSeconds"), "would end pods that serve"))
	}
	if len(r.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ephemeralContainers"), "are added to running pods with kubectl debug"))
	}
	if r.ServiceAccountName != "" {
		for _, wrong := range validation.IsDNS1123Subdomain(r.ServiceAccountName) {
			errs = append(errs, field.Invalid(path.Child("serviceAccountName"), r.ServiceAccountName, wrong))
		}
	}
	for i := range r.ImagePullSecrets {
		if r.ImagePullSecrets[i].Name == "" {
			errs = append(errs, field.Required(path.Child("imagePullSecrets").Index(i).Child("name"), ""))
		}
	}
	return errs
}

// validatePorts checks that exactly one port over all containers takes requests. The
// only container may leave it out.
func validatePorts(containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	first := -1
	for i := range containers {
		ports, at := containers[i].Ports, path.Index(i).Child("ports")
		switch {
		case len(ports) > 1:
			errs = append(errs, field.TooMany(at, len(ports), 1))
		case len(ports) == 1 && first >= 0:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("%s takes the requests already; exactly one port over all containers", path.Index(first).Child("ports"))))
		}
		if len(ports) > 0 && first < 0 {
			first = i
		}
		for j := range ports {
			errs = append(errs, validatePortName(ports[j].Name, at.Index(j))...)
			errs = append(errs, validatePort(&ports[j], at.Index(j))...)
		}
	}
	if first < 0 && len(containers) > 1 {
		errs = append(errs, field.Required(path, "of several containers exactly one must name its port: that one takes the requests"))
	}
	return errs
}

// validatePortName checks the name of the port that takes the requests: it says which protocol.
func validatePortName(name string, path *field.Path) field.ErrorList {
	switch name {
	case "", "http1", "h2c":
		return nil
	}
	return field.ErrorList{field.NotSupported(path.Child("name"), name, []string{"http1", "h2c"})}
}

func validatePort(p *corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	// 0 stands for DefaultPort.
	if p.ContainerPort < 0 || p.ContainerPort > 65535 {
		errs = append(errs, field.Invalid(path.Child("containerPort"), p.ContainerPort, "must be 1..65535"))
	}
	if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
		errs = append(errs, field.NotSupported(path.Child("protocol"), p.Protocol, []corev1.Protocol{corev1.ProtocolTCP}))
	}
	if p.HostPort != 0 {
		errs = append(errs, field.Forbidden(path.Child("hostPort"), "requests come through the gateway"))
	}
	if p.HostIP != "" {
		errs = append(errs, field.Forbidden(path.Child("hostIP"), "requests come through the gateway"))
	}
	return errs
}
