package settings

import (
	"fmt"
	"math"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Defaults is config-defaults: what a RevisionSpec gets where it says nothing, and the
// bounds of what it may say.
type Defaults struct {
	// Timeouts in seconds; ResponseStart and Idle take 0 as none.
	TimeoutSeconds              int64
	MaxTimeoutSeconds           int64
	ResponseStartTimeoutSeconds int64
	IdleTimeoutSeconds          int64

	// ContainerConcurrency in requests; 0 is no limit.
	ContainerConcurrency          int64
	ContainerConcurrencyMaxLimit  int64
	AllowContainerConcurrencyZero bool

	// EnableServiceLinks is nil where Kubernetes is to decide.
	EnableServiceLinks *bool

	// Resources of containers that name none; nil sets nothing.
	CPURequest, CPULimit                           *resource.Quantity
	MemoryRequest, MemoryLimit                     *resource.Quantity
	EphemeralStorageRequest, EphemeralStorageLimit *resource.Quantity

	containerName     *template.Template
	initContainerName *template.Template
}

// Owner is what the templates of container names may refer to: the object that the
// template of the Revision is written in.
type Owner struct {
	Name, Namespace     string
	Labels, Annotations map[string]string
}

func parseDefaults(p *parser) Defaults {
	links := false
	d := Defaults{
		TimeoutSeconds:                300,
		MaxTimeoutSeconds:             600,
		ContainerConcurrencyMaxLimit:  1000,
		AllowContainerConcurrencyZero: true,
		EnableServiceLinks:            &links,
	}
	p.integer("max-revision-timeout-seconds", &d.MaxTimeoutSeconds, 1, math.MaxInt32)
	p.integer("revision-timeout-seconds", &d.TimeoutSeconds, 1, math.MaxInt32)
	if d.TimeoutSeconds > d.MaxTimeoutSeconds {
		p.bad("revision-timeout-seconds", "%d is above max-revision-timeout-seconds %d", d.TimeoutSeconds, d.MaxTimeoutSeconds)
	}
	d.ResponseStartTimeoutSeconds = d.TimeoutSeconds
	p.integer("revision-response-start-timeout-seconds", &d.ResponseStartTimeoutSeconds, 0, math.MaxInt32)
	if d.ResponseStartTimeoutSeconds > d.TimeoutSeconds {
		p.bad("revision-response-start-timeout-seconds", "%d is above revision-timeout-seconds %d", d.ResponseStartTimeoutSeconds, d.TimeoutSeconds)
	}
	p.integer("revision-idle-timeout-seconds", &d.IdleTimeoutSeconds, 0, math.MaxInt32)
	if d.IdleTimeoutSeconds > d.TimeoutSeconds {
		p.bad("revision-idle-timeout-seconds", "%d is above revision-timeout-seconds %d", d.IdleTimeoutSeconds, d.TimeoutSeconds)
	}
	p.integer("container-concurrency-max-limit", &d.ContainerConcurrencyMaxLimit, 1, math.MaxInt32)
	p.integer("container-concurrency", &d.ContainerConcurrency, 0, math.MaxInt32)
	if d.ContainerConcurrency > d.ContainerConcurrencyMaxLimit {
		p.bad("container-concurrency", "%d is above container-concurrency-max-limit %d", d.ContainerConcurrency, d.ContainerConcurrencyMaxLimit)
	}
	p.boolean("allow-container-concurrency-zero", &d.AllowContainerConcurrencyZero)
	if d.ContainerConcurrency == 0 && !d.AllowContainerConcurrencyZero {
		if _, set := p.data["container-concurrency"]; set {
			p.bad("container-concurrency", "0 is not allowed by allow-container-concurrency-zero")
		} else {
			p.bad("allow-container-concurrency-zero", "\"false\" needs a container-concurrency above 0")
		}
	}
	if v, _ := p.lookup("enable-service-links"); strings.EqualFold(v, "default") {
		d.EnableServiceLinks = nil
	} else {
		p.boolean("enable-service-links", d.EnableServiceLinks)
	}
	p.quantity("revision-cpu-request", &d.CPURequest)
	p.quantity("revision-cpu-limit", &d.CPULimit)
	p.quantity("revision-memory-request", &d.MemoryRequest)
	p.quantity("revision-memory-limit", &d.MemoryLimit)
	p.quantity("revision-ephemeral-storage-request", &d.EphemeralStorageRequest)
	p.quantity("revision-ephemeral-storage-limit", &d.EphemeralStorageLimit)
	d.containerName = containerNameTemplate(p, "container-name-template", "user-container")
	d.initContainerName = containerNameTemplate(p, "init-container-name-template", "init-container")
	return d
}

func containerNameTemplate(p *parser, key, text string) *template.Template {
	t := p.template(key, text)
	if t == nil {
		return nil
	}
	name, err := containerName(t, Owner{Name: "hello", Namespace: "default"})
	if err != nil {
		p.bad(key, "%v", err)
	} else if wrong := validation.IsDNS1123Label(name); len(wrong) > 0 {
		p.bad(key, "for a Service hello it gives the name %q: %s", name, wrong[0])
	}
	return t
}

// ContainerName is the name of a container that has none.
func (d *Defaults) ContainerName(owner Owner) (string, error) {
	return containerName(d.containerName, owner)
}

// InitContainerName is the name of an init container that has none.
func (d *Defaults) InitContainerName(owner Owner) (string, error) {
	return containerName(d.initContainerName, owner)
}

func containerName(t *template.Template, owner Owner) (string, error) {
	var b strings.Builder
	if err := t.Execute(&limited{to: &b, left: maxHost}, owner); err != nil {
		return "", fmt.Errorf("name of a container in %s/%s: %w", owner.Namespace, owner.Name, err)
	}
	return b.String(), nil
}
