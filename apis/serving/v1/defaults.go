package v1

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/settings"
)

// DefaultPort is the port of a container whose Revision names none.
const DefaultPort = 8080

// SetDefaults fills in what the spec leaves open. Doing it twice changes nothing more.
func (s *Service) SetDefaults(st *settings.Settings) {
	s.Spec.Template.setDefaults(st, &s.ObjectMeta)
	if len(s.Spec.Traffic) == 0 {
		latest, all := true, int64(100)
		s.Spec.Traffic = []TrafficTarget{{LatestRevision: &latest, Percent: &all}}
	}
	s.Spec.RouteSpec.setDefaults()
}

// SetDefaults fills in what the spec leaves open. Doing it twice changes nothing more.
func (c *Configuration) SetDefaults(st *settings.Settings) {
	c.Spec.Template.setDefaults(st, &c.ObjectMeta)
}

// SetDefaults fills in what the spec leaves open. Doing it twice changes nothing more.
func (r *Route) SetDefaults(*settings.Settings) { r.Spec.setDefaults() }

// SetDefaults fills in what the spec leaves open. Doing it twice changes nothing more.
// A Revision's spec never changes, so this is for one that is about to be created.
func (r *Revision) SetDefaults(st *settings.Settings) { r.Spec.setDefaults(st, &r.ObjectMeta) }

func (r *RouteSpec) setDefaults() {
	for i := range r.Traffic {
		t := &r.Traffic[i]
		if t.LatestRevision == nil {
			latest := t.RevisionName == ""
			t.LatestRevision = &latest
		}
		if t.Percent == nil {
			t.Percent = new(int64(0))
		}
	}
}

func (t *RevisionTemplateSpec) setDefaults(st *settings.Settings, parent *metav1.ObjectMeta) {
	t.Spec.setDefaults(st, parent)
}

func (r *RevisionSpec) setDefaults(st *settings.Settings, parent *metav1.ObjectMeta) {
	d := &st.Defaults
	if r.TimeoutSeconds == nil || *r.TimeoutSeconds == 0 {
		r.TimeoutSeconds = new(d.TimeoutSeconds)
	}
	// These two are set only where they end a request earlier than the timeout does.
	if r.ResponseStartTimeoutSeconds == nil && d.ResponseStartTimeoutSeconds > 0 && d.ResponseStartTimeoutSeconds < *r.TimeoutSeconds {
		r.ResponseStartTimeoutSeconds = new(d.ResponseStartTimeoutSeconds)
	}
	if r.IdleTimeoutSeconds == nil && d.IdleTimeoutSeconds > 0 && d.IdleTimeoutSeconds < *r.TimeoutSeconds {
		r.IdleTimeoutSeconds = new(d.IdleTimeoutSeconds)
	}
	if r.ContainerConcurrency == nil {
		r.ContainerConcurrency = new(d.ContainerConcurrency)
	}
	if r.EnableServiceLinks == nil && d.EnableServiceLinks != nil {
		r.EnableServiceLinks = new(*d.EnableServiceLinks)
	}
	r.nameContainers(d, parent)
	for i := range r.Containers {
		c := &r.Containers[i]
		defaultResources(c, d)
		if len(r.Containers) == 1 || len(c.Ports) > 0 {
			defaultReadiness(c)
		}
		defaultProbe(c.ReadinessProbe)
		for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
			if p != nil && p.GRPC != nil && p.GRPC.Service == nil {
				p.GRPC.Service = new("")
			}
		}
		defaultMounts(c.VolumeMounts, r.Volumes)
	}
	r.secure(st.Features.SecurePodDefaults())
}

// nameContainers names the containers that have no name: the only one by the template
// of the settings, several by the template and a number.
func (r *RevisionSpec) nameContainers(d *settings.Defaults, parent *metav1.ObjectMeta) {
	taken := map[string]bool{}
	for _, list := range [][]corev1.Container{r.Containers, r.InitContainers} {
		for i := range list {
			taken[list[i].Name] = true
		}
	}
	owner := settings.Owner{Name: parent.Name, Namespace: parent.Namespace, Labels: parent.Labels, Annotations: parent.Annotations}
	give := func(list []corev1.Container, name func(settings.Owner) (string, error)) {
		number := 0
		for i := range list {
			if list[i].Name != "" {
				continue
			}
			// A template that fails for this owner leaves the name empty: validation says so.
			base, err := name(owner)
			if err != nil || base == "" {
				return
			}
			candidate := base
			for len(list) > 1 || taken[candidate] {
				candidate = base + "-" + strconv.Itoa(number)
				number++
				if !taken[candidate] {
					break
				}
			}
			taken[candidate] = true
			list[i].Name = candidate
		}
	}
	give(r.Containers, d.ContainerName)
	give(r.InitContainers, d.InitContainerName)
}

func defaultResources(c *corev1.Container, d *settings.Defaults) {
	set := func(list *corev1.ResourceList, name corev1.ResourceName, amount *resource.Quantity) {
		if amount == nil {
			return
		}
		if _, given := (*list)[name]; given {
			return
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = amount.DeepCopy()
	}
	set(&c.Resources.Requests, corev1.ResourceCPU, d.CPURequest)
	set(&c.Resources.Requests, corev1.ResourceMemory, d.MemoryRequest)
	set(&c.Resources.Requests, corev1.ResourceEphemeralStorage, d.EphemeralStorageRequest)
	set(&c.Resources.Limits, corev1.ResourceCPU, d.CPULimit)
	set(&c.Resources.Limits, corev1.ResourceMemory, d.MemoryLimit)
	set(&c.Resources.Limits, corev1.ResourceEphemeralStorage, d.EphemeralStorageLimit)
}

// defaultReadiness makes the container that serves be probed: TCP on its port, which a
// probe with port 0 stands for.
func defaultReadiness(c *corev1.Container) {
	if c.ReadinessProbe == nil {
		c.ReadinessProbe = &corev1.Probe{}
	}
	if len(handlers(c.ReadinessProbe)) == 0 {
		c.ReadinessProbe.TCPSocket = &corev1.TCPSocketAction{}
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	if p.SuccessThreshold == 0 {
		p.SuccessThreshold = 1
	}
	// Without a period Ebb probes as fast as it can, and only one with a period counts.
	if p.PeriodSeconds != 0 {
		if p.FailureThreshold == 0 {
			p.FailureThreshold = 3
		}
		if p.TimeoutSeconds == 0 {
			p.TimeoutSeconds = 1
		}
	}
}

// defaultMounts says of volumes that nobody can write to that they are read-only, as a
// pod has them anyway.
func defaultMounts(mounts []corev1.VolumeMount, volumes []corev1.Volume) {
	for i := range mounts {
		for j := range volumes {
			v := &volumes[j]
			if v.Name == mounts[i].Name && (v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil || v.Image != nil) {
				mounts[i].ReadOnly = true
			}
		}
	}
}

// handlers lists the fields of a probe that say how to probe.
func handlers(p *corev1.Probe) []string {
	var set []string
	if p.Exec != nil {
		set = append(set, "exec")
	}
	if p.GRPC != nil {
		set = append(set, "grpc")
	}
	if p.HTTPGet != nil {
		set = append(set, "httpGet")
	}
	if p.TCPSocket != nil {
		set = append(set, "tcpSocket")
	}
	return set
}

// secure gives containers what the restricted pod security standard asks for, where
// secure-pod-defaults wants it and the template says nothing.
func (r *RevisionSpec) secure(level settings.Flag) {
	if level == settings.FlagDisabled {
		return
	}
	pod := r.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	for _, list := range [][]corev1.Container{r.Containers, r.InitContainers} {
		for i := range list {
			c := &list[i]
			if c.SecurityContext == nil {
				c.SecurityContext = &corev1.SecurityContext{}
			}
			sc := c.SecurityContext
			if sc.AllowPrivilegeEscalation == nil {
				sc.AllowPrivilegeEscalation = new(false)
			}
			if sc.SeccompProfile == nil && pod.SeccompProfile == nil {
				sc.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
			}
			if sc.Capabilities == nil {
				sc.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
				low := func(p corev1.ContainerPort) bool { return p.ContainerPort > 0 && p.ContainerPort < 1024 }
				if slices.ContainsFunc(c.Ports, low) {
					sc.Capabilities.Add = []corev1.Capability{"NET_BIND_SERVICE"}
				}
			}
			if level == settings.FlagEnabled && sc.RunAsNonRoot == nil && pod.RunAsNonRoot == nil {
				sc.RunAsNonRoot = new(true)
			}
		}
	}
}
