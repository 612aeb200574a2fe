package settings

import (
	"slices"
	"strings"
	"time"
)

// Deployment is config-deployment: how a Revision becomes pods.
type Deployment struct {
	// ProgressDeadline is how long a Deployment may take to get its first pod ready, whole seconds.
	ProgressDeadline time.Duration
	// DigestResolutionTimeout bounds the call to a registry.
	DigestResolutionTimeout time.Duration
	// RegistriesSkippingTagResolving are registry hosts, sorted.
	RegistriesSkippingTagResolving []string
	// PodIsAlwaysSchedulable says that nodes are made on demand: a pod that does not fit is no failure.
	PodIsAlwaysSchedulable bool
}

func parseDeployment(p *parser) Deployment {
	d := Deployment{
		ProgressDeadline:               600 * time.Second,
		DigestResolutionTimeout:        10 * time.Second,
		RegistriesSkippingTagResolving: []string{"dev.local", "kind.local", "ko.local"},
	}
	p.duration("progress-deadline", &d.ProgressDeadline, time.Second, 30*24*time.Hour, "progressDeadline")
	if d.ProgressDeadline%time.Second != 0 {
		p.bad("progress-deadline", "%s is not whole seconds", d.ProgressDeadline)
	}
	p.duration("digest-resolution-timeout", &d.DigestResolutionTimeout, time.Nanosecond, time.Hour, "digestResolutionTimeout")
	if v, ok := p.lookup("registries-skipping-tag-resolving", "registriesSkippingTagResolving"); ok {
		d.RegistriesSkippingTagResolving = nil
		for host := range strings.SplitSeq(v, ",") {
			if host = strings.TrimSpace(host); host != "" {
				d.RegistriesSkippingTagResolving = append(d.RegistriesSkippingTagResolving, host)
			}
		}
		slices.Sort(d.RegistriesSkippingTagResolving)
		d.RegistriesSkippingTagResolving = slices.Compact(d.RegistriesSkippingTagResolving)
	}
	p.boolean("pod-is-always-schedulable", &d.PodIsAlwaysSchedulable)
	p.accept("default-affinity-type", "runtime-class-name")
	for _, key := range []string{
		"image", "cpu-request", "cpu-limit", "memory-request", "memory-limit",
		"ephemeral-storage-request", "ephemeral-storage-limit", "token-audiences", "rootca",
		"tls-min-version", "tls-max-version", "tls-cipher-suites", "tls-curve-preferences",
	} {
		// Ebb has no sidecar.
		p.accept("queue-sidecar-" + key)
	}
	p.accept("queueSidecarImage", "queueSidecarCPURequest", "queueSidecarMemoryRequest", "queueSidecarEphemeralStorageRequest",
		"queueSidecarCPULimit", "queueSidecarMemoryLimit", "queueSidecarEphemeralStorageLimit")
	return d
}

// SkipsTagResolving says whether images of this registry (host, with its port where it
// has one) run by their tag.
func (d *Deployment) SkipsTagResolving(registry string) bool {
	_, found := slices.BinarySearch(d.RegistriesSkippingTagResolving, registry)
	return found
}
