package install

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Ports of the parts.
const (
	controlPort   = 18000
	webhookPort   = 9443
	admissionPort = 443
	metricsPort   = 9090
	requestPort   = 8012
	hookPort      = 8013
	httpPort      = 8080
	httpsPort     = 8443
	internalPort  = 8081
	natsPort      = 4222

	// metricsName is the port's name by which the user's commands find it.
	metricsName = "metrics"

	// user of the images: none that a machine has.
	user = 65532
	// TLSFolder has what a part shows to the others: tls.crt, tls.key, ca.crt.
	TLSFolder = "/etc/ebb/tls"
	// Control is where gateways and activators find the controller that leads.
	Control = ControlName + "." + Namespace + ".svc:18000"
)

// Times around a drain, in seconds.
const (
	notice = 5  // load balancers take notice
	leave  = 3  // the kube-apiserver has stopped to send admission
	margin = 15 // to end after the last request
	// DrainMargin is by how many seconds a pod's grace is longer than its requests may take.
	DrainMargin = notice + margin
)

// pod is what the parts' pods differ in.
type pod struct {
	name, component string
	image           string
	args            []string
	ports           []corev1.ContainerPort
	part            *Part
	grace           int64
	token           bool // it talks to the kube-apiserver
	hook            *corev1.Lifecycle
	volumes         []corev1.Volume
	mounts          []corev1.VolumeMount
	unavailable     intstr.IntOrString // pods of these that may be missing during an upgrade
	surge           intstr.IntOrString
}

func selector(component string) map[string]string {
	return map[string]string{PartOfLabel: PartOf, ComponentLabel: component}
}

func port(name string, number int32) corev1.ContainerPort {
	return corev1.ContainerPort{Name: name, ContainerPort: number, Protocol: corev1.ProtocolTCP}
}

func deployment(v Values, p pod) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: typeMeta(appsv1.SchemeGroupVersion, "Deployment"), ObjectMeta: named(p.name, p.component),
		Spec: appsv1.DeploymentSpec{
			Replicas:             new(p.part.Replicas),
			RevisionHistoryLimit: new(int32(3)),
			Selector:             &metav1.LabelSelector{MatchLabels: selector(p.component)},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &p.unavailable, MaxSurge: &p.surge},
			},
			Template: podTemplate(v, p),
		},
	}
}

// podTemplate makes a part: nobody's user, nothing that can be written but what is mounted, no capability, spread over the
// machines, asked whether it lives and is ready.
func podTemplate(v Values, p pod) corev1.PodTemplateSpec {
	probe := func(path string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(metricsName), Scheme: corev1.URISchemeHTTP}},
			PeriodSeconds: period, TimeoutSeconds: 3, FailureThreshold: failures, SuccessThreshold: 1,
		}
	}
	spread := func(key string) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: selector(p.component)}, MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey},
		}
	}
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
	}
	t := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: selector(p.component), Annotations: maps.Clone(p.part.Annotations)},
		Spec: corev1.PodSpec{
			ServiceAccountName:            p.name,
			AutomountServiceAccountToken:  &p.token,
			EnableServiceLinks:            new(false),
			PriorityClassName:             PriorityName,
			TerminationGracePeriodSeconds: &p.grace,
			NodeSelector:                  maps.Clone(p.part.NodeSelector),
			Tolerations:                   p.part.Tolerations,
			ImagePullSecrets:              v.Image.PullSecrets,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(user)), RunAsGroup: new(int64(user)), FSGroup: new(int64(user)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{spread(corev1.LabelHostname), spread(corev1.LabelTopologyZone)},
			Containers: []corev1.Container{{
				Name:            p.component,
				Image:           p.image,
				ImagePullPolicy: v.Image.PullPolicy,
				Args:            append(p.args, p.part.Args...),
				Env:             []corev1.EnvVar{field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"), field("POD_IP", "status.podIP")},
				Ports:           append(p.ports, port(metricsName, metricsPort)),
				Resources:       *p.part.Resources.DeepCopy(),
				LivenessProbe:   probe("/healthz", 10, 3),
				ReadinessProbe:  probe("/readyz", 2, 2),
				Lifecycle:       p.hook,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), RunAsNonRoot: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				VolumeMounts:             p.mounts,
			}},
			Volumes: p.volumes,
		},
	}
	if v.Gateway.HostPort.Enabled && p.component == "gateway" {
		t.Spec.Containers[0].Ports[0].HostPort = v.Gateway.HostPort.HTTP
		t.Spec.Containers[0].Ports[1].HostPort = v.Gateway.HostPort.HTTPS
	}
	return t
}

// credentials mounts a Secret that the controller makes; a pod waits for it.
func credentials(secret, at string) (corev1.Volume, corev1.VolumeMount) {
	return corev1.Volume{Name: secret, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: new(int32(0o440))}}},
		corev1.VolumeMount{Name: secret, MountPath: at, ReadOnly: true}
}

func tlsArgs() []string {
	return []string{"--tls-cert=" + TLSFolder + "/tls.crt", "--tls-key=" + TLSFolder + "/tls.key", "--tls-ca=" + TLSFolder + "/ca.crt"}
}

var (
	none  = intstr.FromInt32(0)
	first = intstr.FromInt32(1)
)

func controller(v Values) []client.Object {
	return []client.Object{deployment(v, pod{
		name: ControllerName, component: "controller", image: v.Image.ref("ebb", v.Image.Digests.Ebb), part: &v.Controller,
		args: []string{
			"controller", "--namespace=" + Namespace, "--issue-certificates",
			"--drain-service=" + ActivatorName, "--drain-port=" + strconv.Itoa(hookPort),
		},
		ports: []corev1.ContainerPort{port("control", controlPort), port("admission", webhookPort)},
		grace: 30, token: true, hook: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: leave}}},
		unavailable: none, surge: first,
	})}
}

func activator(v Values) []client.Object {
	own, at := credentials("ebb-activator-tls", TLSFolder)
	return []client.Object{deployment(v, pod{
		name: ActivatorName, component: "activator", image: v.Image.ref("ebb", v.Image.Digests.Ebb), part: &v.Activator.Part,
		args:  append([]string{"activator", "--control=" + Control, "--drain-timeout=" + seconds(v.Activator.DrainSeconds)}, tlsArgs()...),
		ports: []corev1.ContainerPort{port("http", requestPort), port("drain", hookPort)},
		grace: v.Activator.DrainSeconds + DrainMargin, volumes: []corev1.Volume{own}, mounts: []corev1.VolumeMount{at},
		unavailable: none, surge: first,
	})}
}

func gateway(v Values) []client.Object {
	own, at := credentials("ebb-gateway-tls", TLSFolder)
	unavailable, surge := none, first
	if v.Gateway.HostPort.Enabled {
		unavailable, surge = first, none // the port of a node is taken until the old pod is gone
	}
	return []client.Object{deployment(v, pod{
		name: GatewayName, component: "gateway", image: v.Image.ref("ebb-gateway", v.Image.Digests.Gateway), part: &v.Gateway.Part,
		args:        append([]string{"gateway", "--control=" + Control, "--drain-notice=" + seconds(notice), "--drain-timeout=" + seconds(v.Gateway.DrainSeconds)}, tlsArgs()...),
		ports:       []corev1.ContainerPort{port("http", httpPort), port("https", httpsPort), port("internal", internalPort)},
		grace:       v.Gateway.DrainSeconds + DrainMargin,
		volumes:     []corev1.Volume{own, {Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		mounts:      []corev1.VolumeMount{at, {Name: "tmp", MountPath: "/tmp"}},
		unavailable: unavailable, surge: surge,
	})}
}

func seconds(n int64) string { return strconv.FormatInt(n, 10) + "s" }
