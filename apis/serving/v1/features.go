package v1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/settings"
)

// validateFeatures refuses the fields of a PodSpec that an operator has disabled in
// config-features.
func (r *RevisionSpec) validateFeatures(f *settings.Features, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range f.Disabled() {
		for _, at := range r.uses(key, path) {
			errs = append(errs, field.Forbidden(at, "is disabled by "+settings.ConfigFeatures+"/"+key))
		}
	}
	return errs
}

// uses returns the fields by which the spec uses what the key of config-features switches.
func (r *RevisionSpec) uses(key string, path *field.Path) []*field.Path {
	when := func(used bool, name string) []*field.Path {
		if !used {
			return nil
		}
		return []*field.Path{path.Child(name)}
	}
	switch key {
	case settings.FeatureMultiContainer:
		return when(len(r.Containers) > 1, "containers")
	case settings.FeatureMultiContainerProbing:
		return r.eachContainer(path, func(c *corev1.Container) string {
			if len(r.Containers) > 1 && len(c.Ports) == 0 && c.ReadinessProbe != nil {
				return "readinessProbe"
			}
			return ""
		})
	case "kubernetes.containerspec-addcapabilities":
		return r.eachContainer(path, func(c *corev1.Container) string {
			if c.SecurityContext != nil && c.SecurityContext.Capabilities != nil && len(c.SecurityContext.Capabilities.Add) > 0 {
				return "securityContext.capabilities.add"
			}
			return ""
		})
	case "kubernetes.podspec-fieldref":
		return r.eachContainer(path, func(c *corev1.Container) string {
			for i := range c.Env {
				if from := c.Env[i].ValueFrom; from != nil && (from.FieldRef != nil || from.ResourceFieldRef != nil) {
					return "env"
				}
			}
			return ""
		})
	case "kubernetes.podspec-volumes-mount-propagation":
		return r.eachContainer(path, func(c *corev1.Container) string {
			for i := range c.VolumeMounts {
				if c.VolumeMounts[i].MountPropagation != nil {
					return "volumeMounts"
				}
			}
			return ""
		})
	case "kubernetes.podspec-affinity":
		return when(r.Affinity != nil, "affinity")
	case "kubernetes.podspec-dnsconfig":
		return when(r.DNSConfig != nil, "dnsConfig")
	case "kubernetes.podspec-dnspolicy":
		return when(r.DNSPolicy != "", "dnsPolicy")
	case "kubernetes.podspec-hostaliases":
		return when(len(r.HostAliases) > 0, "hostAliases")
	case "kubernetes.podspec-hostipc":
		return when(r.HostIPC, "hostIPC")
	case "kubernetes.podspec-hostnetwork":
		return when(r.HostNetwork, "hostNetwork")
	case "kubernetes.podspec-hostpid":
		return when(r.HostPID, "hostPID")
	case "kubernetes.podspec-init-containers":
		return when(len(r.InitContainers) > 0, "initContainers")
	case "kubernetes.podspec-nodeselector":
		return when(len(r.NodeSelector) > 0, "nodeSelector")
	case "kubernetes.podspec-priorityclassname":
		return when(r.PriorityClassName != "", "priorityClassName")
	case "kubernetes.podspec-runtimeclassname":
		return when(r.RuntimeClassName != nil, "runtimeClassName")
	case "kubernetes.podspec-schedulername":
		return when(r.SchedulerName != "", "schedulerName")
	case "kubernetes.podspec-securitycontext":
		return when(r.SecurityContext != nil, "securityContext")
	case "kubernetes.podspec-shareprocessnamespace":
		return when(r.ShareProcessNamespace != nil, "shareProcessNamespace")
	case "kubernetes.podspec-tolerations":
		return when(len(r.Tolerations) > 0, "tolerations")
	case "kubernetes.podspec-topologyspreadconstraints":
		return when(len(r.TopologySpreadConstraints) > 0, "topologySpreadConstraints")
	}
	return r.usesVolume(key, path.Child("volumes"))
}

func (r *RevisionSpec) usesVolume(key string, path *field.Path) []*field.Path {
	var used []*field.Path
	for i := range r.Volumes {
		v := &r.Volumes[i]
		var name string
		switch {
		case key == "kubernetes.podspec-volumes-csi" && v.CSI != nil:
			name = "csi"
		case key == "kubernetes.podspec-volumes-emptydir" && v.EmptyDir != nil:
			name = "emptyDir"
		case key == "kubernetes.podspec-volumes-ephemeral" && v.Ephemeral != nil:
			name = "ephemeral"
		case key == "kubernetes.podspec-volumes-hostpath" && v.HostPath != nil:
			name = "hostPath"
		case key == "kubernetes.podspec-volumes-image" && v.Image != nil:
			name = "image"
		case key == "kubernetes.podspec-persistent-volume-claim" && v.PersistentVolumeClaim != nil:
			name = "persistentVolumeClaim"
		case key == "kubernetes.podspec-persistent-volume-write" && v.PersistentVolumeClaim != nil && !v.PersistentVolumeClaim.ReadOnly:
			name = "persistentVolumeClaim.readOnly"
		default:
			continue
		}
		used = append(used, path.Index(i).Child(name))
	}
	return used
}

// eachContainer asks every container, init containers too, for the field it uses.
func (r *RevisionSpec) eachContainer(path *field.Path, uses func(*corev1.Container) string) []*field.Path {
	var used []*field.Path
	for i := range r.Containers {
		if name := uses(&r.Containers[i]); name != "" {
			used = append(used, path.Child("containers").Index(i).Child(name))
		}
	}
	for i := range r.InitContainers {
		if name := uses(&r.InitContainers[i]); name != "" {
			used = append(used, path.Child("initContainers").Index(i).Child(name))
		}
	}
	return used
}
