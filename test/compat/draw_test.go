package compat

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"pgregory.net/rapid"
)

// Each value is drawn from good and bad ones. The first, which is good, comes most often,
// so that there are also manifests with nothing bad in them.
func one[T any](t *rapid.T, label string, values ...T) T {
	return values[max(0, rapid.IntRange(-7*len(values), len(values)-1).Draw(t, label))]
}

// rare is true in one of so many draws.
func rare(t *rapid.T, label string, of int) bool {
	return rapid.IntRange(0, of-1).Draw(t, label) == of-1
}

func drawService(t *rapid.T) *servingv1.Service {
	s := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "prod"}}
	switch {
	case rare(t, "generated", 10):
		s.Name, s.GenerateName = "", "shop-"
	case rare(t, "bad name", 20):
		s.Name = one(t, "name", "shop-of-a-name-that-is-long-but-not-too-long-for-a-label", "9lives", "Shop", "shop.x")
	}
	if rare(t, "rollout", 10) {
		s.Annotations = map[string]string{"serving.knative.dev/rollout-duration": one(t, "duration", "10s", "1m", "", "0", "1500ms", "-1s", "soon")}
	}
	s.Spec.Template = drawTemplate(t)
	for range rapid.IntRange(0, 3).Draw(t, "targets") {
		s.Spec.Traffic = append(s.Spec.Traffic, drawTarget(t))
	}
	if len(s.Spec.Traffic) > 0 && !rare(t, "any sum", 4) {
		left := int64(100)
		for i := range s.Spec.Traffic {
			if p := s.Spec.Traffic[i].Percent; p != nil {
				left -= *p
			}
		}
		if p := s.Spec.Traffic[0].Percent; p != nil {
			left += *p
		}
		s.Spec.Traffic[0].Percent = &left
	}
	return s
}

func drawTarget(t *rapid.T) servingv1.TrafficTarget {
	target := servingv1.TrafficTarget{
		Tag:          one(t, "tag", "", "blue", "green", "old", "Bad", "a.b"),
		RevisionName: one(t, "revision", "", "shop-00001", "shop-blue"),
	}
	if !rare(t, "no percent", 3) {
		target.Percent = new(one(t, "percent", int64(0), 1, 30, 50, 100, -1, 101))
	}
	switch rapid.IntRange(0, 8).Draw(t, "latest") {
	case 6:
		target.LatestRevision = new(target.RevisionName == "")
	case 7:
		target.LatestRevision = new(target.RevisionName != "")
	case 8:
		target.ConfigurationName = "shop"
	}
	return target
}

func drawTemplate(t *rapid.T) servingv1.RevisionTemplateSpec {
	var template servingv1.RevisionTemplateSpec
	if rare(t, "named", 6) {
		template.Name = one(t, "revision's name", "shop-blue", "shop-", "other", "shop-Blue")
	}
	values := map[string][]string{
		"class":                              {"kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev", "keda.example", "x.knative.dev"},
		"metric":                             {"concurrency", "rps", "cpu", "memory", "queue", ""},
		"target":                             {"10", "0.5", "0.01", "0.001", "-1", "", "many", "1e3", "NaN"},
		"target-utilization-percentage":      {"70", "1", "100", "0.9", "101", "x"},
		"target-burst-capacity":              {"0", "-1", "200", "-0.5", "-2", "x", "Inf"},
		"min-scale":                          {"0", "1", "5", "-1", "x", "99999999999", "+1"},
		"max-scale":                          {"0", "3", "10", "-1", "x"},
		"initial-scale":                      {"1", "3", "0", "-1", "x"},
		"activation-scale":                   {"2", "4", "1", "0", "x"},
		"scale-down-delay":                   {"0s", "30s", "1h", "61m", "500ms", "-1s", "0", "x"},
		"scale-to-zero-pod-retention-period": {"0s", "30s", "1h", "61m", "500ms", "-1s", "x"},
		"window":                             {"60s", "6s", "1h", "5s", "61m", "6500ms", "x", ""},
		"panic-window-percentage":            {"10", "1", "100", "0.5", "101", "x"},
		"panic-threshold-percentage":         {"200", "110", "1000", "109", "1001", "x"},
		"metric-aggregation-algorithm":       {"linear", "weighted-exponential", "weightedExponential", "cubic", ""},
		"targetUtilizationPercentage":        {"60"},
		"minScale":                           {"2"},
		"something-of-another-version":       {"kept"},
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	template.Annotations = map[string]string{}
	for range rapid.IntRange(0, 4).Draw(t, "annotations") {
		key := one(t, "annotation", keys...)
		template.Annotations["autoscaling.knative.dev/"+key] = one(t, key, values[key]...)
	}
	if rare(t, "deadline", 10) {
		template.Annotations["serving.knative.dev/progress-deadline"] = one(t, "progress-deadline", "30s", "", "1500ms", "-1s", "x")
	}
	spec := &template.Spec
	if rare(t, "timeout", 3) {
		spec.TimeoutSeconds = new(one(t, "timeoutSeconds", int64(30), 0, 600, 601, -1))
	}
	if rare(t, "response", 5) {
		spec.ResponseStartTimeoutSeconds = new(one(t, "responseStartTimeoutSeconds", int64(30), 0, 300))
	}
	if rare(t, "idle", 5) {
		spec.IdleTimeoutSeconds = new(one(t, "idleTimeoutSeconds", int64(30), 0))
	}
	if rare(t, "concurrency", 3) {
		spec.ContainerConcurrency = new(one(t, "containerConcurrency", int64(1), 0, 1000, 1001, -1))
	}
	if rare(t, "links", 5) {
		spec.EnableServiceLinks = new(one(t, "enableServiceLinks", false, true))
	}
	if rare(t, "account", 5) {
		spec.ServiceAccountName = one(t, "serviceAccountName", "runner", "Runner", "a.b")
	}
	drawVolumes(t, spec)
	many := rare(t, "several", 4)
	count := 1
	if many {
		count = rapid.IntRange(0, 3).Draw(t, "containers")
	}
	for i := range count {
		spec.Containers = append(spec.Containers, drawContainer(t, spec, count == 1 && rare(t, "port", 3) || count > 1 && i == 0, count > 1))
	}
	for range rapid.IntRange(0, 8).Draw(t, "init") / 7 {
		c := drawContainer(t, spec, false, true)
		if !rare(t, "probes too", 6) {
			c.ReadinessProbe, c.LivenessProbe, c.StartupProbe = nil, nil, nil
		}
		spec.InitContainers = append(spec.InitContainers, c)
	}
	return template
}

func drawVolumes(t *rapid.T, spec *servingv1.RevisionSpec) {
	for i := range rapid.IntRange(0, 6).Draw(t, "volumes") / 4 {
		v := corev1.Volume{Name: []string{"data", "conf"}[i]}
		switch rapid.IntRange(0, 8).Draw(t, "volume") {
		case 0:
			v.EmptyDir = &corev1.EmptyDirVolumeSource{Medium: one(t, "medium", corev1.StorageMediumDefault, corev1.StorageMediumMemory, "Paper")}
		case 1:
			v.ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}
		case 2:
			v.Secret = &corev1.SecretVolumeSource{SecretName: "secret", Items: []corev1.KeyToPath{{Key: one(t, "key", "a", ""), Path: "b"}}}
		case 3:
			v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim", ReadOnly: one(t, "read only", false, true)}
		case 4:
			v.Projected = &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: one(t, "path", "token", "")}}}}
		case 5:
			v.HostPath = &corev1.HostPathVolumeSource{Path: "/x"}
		case 6:
			v.CSI = &corev1.CSIVolumeSource{Driver: "x"}
		case 7:
			v.EmptyDir, v.ConfigMap = &corev1.EmptyDirVolumeSource{}, &corev1.ConfigMapVolumeSource{}
		}
		spec.Volumes = append(spec.Volumes, v)
	}
}

func drawContainer(t *rapid.T, spec *servingv1.RevisionSpec, port, named bool) corev1.Container {
	c := corev1.Container{Image: one(t, "image", "example.com/app:v1", "app", "a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000", "", "UPPER", "a b")}
	if named && !rare(t, "unnamed", 3) || rare(t, "name", 8) {
		c.Name = one(t, "container's name", "app", "sidecar", "extra", "user-container", "queue-proxy", "Bad")
	}
	if port || rare(t, "a port", 12) {
		c.Ports = []corev1.ContainerPort{{
			Name: one(t, "port's name", "", "http1", "h2c", "grpc"), ContainerPort: one(t, "port", int32(8080), 0, 9000, 80, 8012, 8013, 8022, 9090, 9091, 70000, -1),
			Protocol: one(t, "protocol", "", corev1.ProtocolTCP, corev1.ProtocolUDP),
		}}
		if rare(t, "two", 15) {
			c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: 1234})
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "env") {
		e := corev1.EnvVar{Name: one(t, "variable", "A", "B", "some.name", "", "PORT", "K_SERVICE", "9 lives"), Value: one(t, "value", "", "x")}
		if rare(t, "from", 4) {
			e.Value = ""
			e.ValueFrom = &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}
			if rare(t, "field", 2) {
				e.ValueFrom = &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}
			}
		}
		c.Env = append(c.Env, e)
	}
	if rare(t, "envFrom", 6) {
		c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: one(t, "map", "settings", "")}}}}
		if rare(t, "neither", 4) {
			c.EnvFrom[0].ConfigMapRef = nil
		}
	}
	if rare(t, "resources", 4) {
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(one(t, "cpu", "100m", "2", "-1"))}
		c.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(one(t, "limit", "2", "1"))}
	}
	c.ReadinessProbe, c.LivenessProbe, c.StartupProbe = drawProbe(t, "readiness"), drawProbe(t, "liveness"), drawProbe(t, "startup")
	if rare(t, "security", 5) {
		c.SecurityContext = &corev1.SecurityContext{RunAsUser: new(one(t, "user", int64(1000), 0, -1)), RunAsNonRoot: new(true)}
	}
	for i := range spec.Volumes {
		if !rare(t, "not mounted", 6) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{
				Name: spec.Volumes[i].Name, MountPath: one(t, "mount", "/data", "/conf", "/a/b", "data", "/", "/dev", "/dev/log", ""),
				// Ebb lets these be written to unless the mount says otherwise; the public defaults do not.
				ReadOnly: spec.Volumes[i].HostPath != nil || spec.Volumes[i].CSI != nil || one(t, "mounted read only", false, true),
			})
		}
	}
	if rare(t, "lifecycle", 30) {
		c.Lifecycle = &corev1.Lifecycle{}
	}
	if rare(t, "policy", 10) {
		c.ImagePullPolicy = one(t, "pull", corev1.PullAlways, corev1.PullNever)
		c.TerminationMessagePolicy = one(t, "message", corev1.TerminationMessageFallbackToLogsOnError, "Loud")
	}
	return c
}

func drawProbe(t *rapid.T, which string) *corev1.Probe {
	if !rare(t, which, 4) {
		return nil
	}
	p := &corev1.Probe{
		PeriodSeconds: one(t, "period", int32(0), 1, 10, -1), FailureThreshold: one(t, "failures", int32(0), 3, -1),
		TimeoutSeconds: one(t, "timeout", int32(0), 1, 5, -1), SuccessThreshold: one(t, "successes", int32(0), 1, 2, -1), InitialDelaySeconds: one(t, "delay", int32(0), 1, -1),
	}
	switch rapid.IntRange(0, 6).Draw(t, "probe") {
	case 0:
		p.HTTPGet = &corev1.HTTPGetAction{Path: "/ready"}
	case 1:
		p.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromInt32(one(t, "probed", int32(0), 8080, 9000))}
	case 2:
		p.Exec = &corev1.ExecAction{Command: []string{"true"}}
	case 3:
		p.GRPC = &corev1.GRPCAction{Port: one(t, "probed", int32(0), 8080)}
	case 4:
		p.HTTPGet, p.TCPSocket = &corev1.HTTPGetAction{Path: "/"}, &corev1.TCPSocketAction{}
	case 5:
		p.HTTPGet = &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString(one(t, "port's name", "http1", "other", ""))}
	}
	return p
}
