package revision

import (
	"maps"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

const (
	// userPort is the name of the one container port.
	userPort = "user-port"
	// defaultPort is where a container listens that names no port.
	defaultPort = 8080
	// graceMargin is how long a pod may take to end after its last request, seconds.
	graceMargin = 30
)

// deploymentName is the name of a Revision's Deployment.
func deploymentName(revision string) string { return revision + "-deployment" }

// makeDeployment is the Deployment of a Revision, without replicas. Images run by the
// digests in the Revision's status. drain is the host:port that a pod calls before it
// ends, "" for none.
func makeDeployment(rev *v1.Revision, s *settings.Settings, drain string) *appsv1.Deployment {
	selector := map[string]string{serving.RevisionUIDLabel: string(rev.UID)}
	zero, quarter := intstr.FromInt32(0), intstr.FromString("25%")
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Name: deploymentName(rev.Name), Namespace: rev.Namespace,
			Labels: podLabels(rev), Annotations: podAnnotations(rev),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rev, v1.GroupVersion.WithKind(v1.KindRevision))},
		},
		Spec: appsv1.DeploymentSpec{
			Selector:                &metav1.LabelSelector{MatchLabels: selector},
			ProgressDeadlineSeconds: new(progressDeadline(rev, s)),
			RevisionHistoryLimit:    new(int32(0)),
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &zero, MaxSurge: &quarter},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: podLabels(rev), Annotations: shown(podAnnotations(rev), rev)},
				Spec:       makePod(rev, drain),
			},
		},
	}
}

// defaultContainer is the annotation by which kubectl logs and exec choose among containers.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// shown adds to a pod's annotations which of its containers takes the requests, where
// there are several and the template does not say another.
func shown(annotations map[string]string, rev *v1.Revision) map[string]string {
	if len(rev.Spec.Containers)+len(rev.Spec.InitContainers) > 1 && annotations[defaultContainer] == "" {
		annotations[defaultContainer] = rev.Spec.Containers[userContainer(rev.Spec.Containers)].Name
	}
	return annotations
}

func makePod(rev *v1.Revision, drain string) corev1.PodSpec {
	pod := *rev.Spec.PodSpec.DeepCopy()
	if pod.EnableServiceLinks == nil {
		pod.EnableServiceLinks = new(false)
	}
	if pod.AutomountServiceAccountToken == nil && pod.ServiceAccountName == "" {
		pod.AutomountServiceAccountToken = new(false)
	}
	grace := int64(graceMargin)
	if rev.Spec.TimeoutSeconds != nil {
		grace += *rev.Spec.TimeoutSeconds
	}
	if pod.TerminationGracePeriodSeconds == nil || *pod.TerminationGracePeriodSeconds < grace {
		pod.TerminationGracePeriodSeconds = &grace
	}
	resolved(pod.Containers, rev.Status.ContainerStatuses)
	resolved(pod.InitContainers, rev.Status.InitContainerStatuses)
	for i := range pod.InitContainers {
		c := &pod.InitContainers[i]
		if c.TerminationMessagePolicy == "" {
			c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		}
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			fillProbes(c, 0, "")
			c.Env = identified(c.Env, rev)
		}
	}
	user := userContainer(pod.Containers)
	for i := range pod.Containers {
		c := &pod.Containers[i]
		if c.TerminationMessagePolicy == "" {
			c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		}
		if i == user {
			serve(c, rev, drain)
		} else {
			fillProbes(c, 0, "")
			c.Env = identified(c.Env, rev)
		}
	}
	return pod
}

// serve turns a container into the one that takes requests.
func serve(c *corev1.Container, rev *v1.Revision, drain string) {
	port, named := int32(defaultPort), ""
	if len(c.Ports) > 0 {
		named = c.Ports[0].Name
		if c.Ports[0].ContainerPort != 0 {
			port = c.Ports[0].ContainerPort
		}
	}
	c.Ports = []corev1.ContainerPort{{Name: userPort, ContainerPort: port, Protocol: corev1.ProtocolTCP}}
	c.Env = append([]corev1.EnvVar{{Name: "PORT", Value: strconv.Itoa(int(port))}}, identified(c.Env, rev)...)
	if c.ReadinessProbe == nil {
		c.ReadinessProbe = &corev1.Probe{}
	}
	if c.ReadinessProbe.ProbeHandler == (corev1.ProbeHandler{}) {
		c.ReadinessProbe.TCPSocket = &corev1.TCPSocketAction{}
	}
	fillProbes(c, port, named)
	if host, p, err := net.SplitHostPort(drain); err == nil {
		if c.Lifecycle == nil {
			c.Lifecycle = &corev1.Lifecycle{}
		}
		if c.Lifecycle.PreStop == nil {
			c.Lifecycle.PreStop = &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
				Host: host, Port: portOf(p), Path: "/drain/" + rev.Namespace + "/" + rev.Name, Scheme: corev1.URISchemeHTTP,
			}}
		}
	}
}

func portOf(p string) intstr.IntOrString {
	if n, err := strconv.ParseUint(p, 10, 16); err == nil {
		return intstr.FromInt32(int32(n))
	}
	return intstr.FromString(p)
}

// fillProbes gives probes without a port, or with its name, the container's (port; 0
// leaves them alone) and those that ask for the shortest period, 0, the shortest that
// Kubernetes has.
func fillProbes(c *corev1.Container, port int32, named string) {
	for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		if p == c.ReadinessProbe && p.PeriodSeconds < 1 {
			p.PeriodSeconds = 1
		}
		if p == c.ReadinessProbe && p.SuccessThreshold < 1 {
			p.SuccessThreshold = 1
		}
		if port == 0 {
			continue
		}
		unset := func(at intstr.IntOrString) bool {
			return at == intstr.IntOrString{} || at.String() == "0" || at.String() == "" || at.String() == named
		}
		switch {
		case p.HTTPGet != nil && unset(p.HTTPGet.Port):
			p.HTTPGet.Port = intstr.FromInt32(port)
		case p.TCPSocket != nil && unset(p.TCPSocket.Port):
			p.TCPSocket.Port = intstr.FromInt32(port)
		case p.GRPC != nil && p.GRPC.Port == 0:
			p.GRPC.Port = port
		}
	}
}

// identified puts the variables that tell a container what it is of before its own, so
// that those can refer to them; a variable of the same name gives way.
func identified(env []corev1.EnvVar, rev *v1.Revision) []corev1.EnvVar {
	out := []corev1.EnvVar{
		{Name: "K_SERVICE", Value: rev.Labels[serving.ServiceLabel]},
		{Name: "K_CONFIGURATION", Value: rev.Labels[serving.ConfigurationLabel]},
		{Name: "K_REVISION", Value: rev.Name},
	}
	for _, e := range env {
		switch e.Name {
		case "PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION":
		default:
			out = append(out, e)
		}
	}
	return out
}

// userContainer is the index of the container that takes requests: the one with a port,
// else the first.
func userContainer(containers []corev1.Container) int {
	for i := range containers {
		if len(containers[i].Ports) > 0 {
			return i
		}
	}
	return 0
}

func resolved(containers []corev1.Container, digests []v1.ContainerStatus) {
	for i := range containers {
		for _, d := range digests {
			if d.Name == containers[i].Name && d.ImageDigest != "" {
				containers[i].Image = d.ImageDigest
			}
		}
	}
}

func podLabels(rev *v1.Revision) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, rev.Labels)
	delete(labels, serving.RoutingStateLabel)
	if labels[serving.AppLabel] == "" {
		labels[serving.AppLabel] = rev.Name
	}
	labels[serving.RevisionLabel] = rev.Name
	labels[serving.RevisionUIDLabel] = string(rev.UID)
	return labels
}

// podAnnotations leaves out what is about the Revision and not about its pods: changing
// that must not replace pods. Who made the Revision never changes.
func podAnnotations(rev *v1.Revision) map[string]string {
	annotations := map[string]string{}
	for k, v := range rev.Annotations {
		group, _, _ := strings.Cut(k, "/")
		switch {
		case k == serving.CreatorAnnotation:
			annotations[k] = v
		case group == serving.GroupName, group == serving.AutoscalingGroup, group == serving.EbbGroupName, k == corev1.LastAppliedConfigAnnotation:
		default:
			annotations[k] = v
		}
	}
	return annotations
}

// progressDeadline in whole seconds, by annotation or settings.
func progressDeadline(rev *v1.Revision, s *settings.Settings) int32 {
	d := s.Deployment.ProgressDeadline
	for _, key := range []string{serving.GroupName + "/progressDeadline", serving.ProgressDeadlineAnnotation} {
		if v, err := time.ParseDuration(rev.Annotations[key]); err == nil && v >= time.Second {
			d = min(v, math.MaxInt32*time.Second)
		}
	}
	return int32(d / time.Second)
}

// initialScale is the number of pods a Revision is made with.
func initialScale(rev *v1.Revision, s *settings.Settings) int32 {
	var limit int64
	if rev.Spec.ContainerConcurrency != nil {
		limit = *rev.Spec.ContainerConcurrency
	}
	a, _ := settings.ParseAutoscaling(s.Autoscaler, limit, rev.Annotations)
	scale := max(a.InitialScale, a.MinScale)
	if a.MaxScale > 0 {
		scale = min(scale, a.MaxScale)
	}
	return scale
}
