package install

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	EventingSecret = "ebb-eventing-tls"
	natsSecret     = "ebb-nats-tls"
	// natsURL is where Ebb's own store of events is.
	natsURL = "nats://" + NATSName + "." + Namespace + ".svc:4222"
	// NATSVolume and NATSFolder have what a store of the user's asks for.
	NATSVolume = "nats-credentials"
	NATSFolder = "/etc/ebb/nats"
	// eventingDrain is how long deliveries in flight may take once it is told to end; others make them again.
	eventingDrain = 25
)

// eventing takes and delivers events.
func eventing(v Values) []client.Object {
	own, at := credentials(EventingSecret, TLSFolder)
	volumes, mounts := []corev1.Volume{own}, []corev1.VolumeMount{at}
	if secret := v.NATS.Secret.Name; secret != "" && !v.NATS.Embedded {
		theirs, at := credentials(secret, NATSFolder)
		theirs.Name, at.Name = NATSVolume, NATSVolume
		volumes, mounts = append(volumes, theirs), append(mounts, at)
	}
	return []client.Object{deployment(v, pod{
		name: EventingName, component: eventingComponent, image: v.Image.ref("ebb", v.Image.Digests.Ebb), part: &v.Eventing.Part,
		args: slices.Concat([]string{"eventing", "--namespace=" + Namespace, "--drain-timeout=" + seconds(eventingDrain), "--control=" + Control},
			tlsArgs(), v.NATS.client()),
		ports: []corev1.ContainerPort{port("http", httpPort)},
		grace: eventingDrain + DrainMargin, token: true,
		// Senders are to hear that it is gone before it refuses.
		hook:    &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: notice}}},
		volumes: volumes, mounts: mounts,
		unavailable: none, surge: first,
	})}
}

// client is how the store is reached.
func (n *NATS) client() []string {
	if n.Embedded {
		return []string{
			"--nats=" + natsURL, "--nats-embedded",
			"--nats-tls-cert=" + TLSFolder + "/tls.crt", "--nats-tls-key=" + TLSFolder + "/tls.key", "--nats-tls-ca=" + TLSFolder + "/ca.crt",
		}
	}
	args := []string{"--nats=" + n.URL}
	if n.User != "" {
		args = append(args, "--nats-user="+n.User)
	}
	for _, f := range []struct{ flag, key string }{
		{"credentials", n.Secret.Credentials}, {"password-file", n.Secret.Password}, {"tls-ca", n.Secret.CA}, {"tls-cert", n.Secret.Cert}, {"tls-key", n.Secret.Key},
	} {
		if f.key != "" {
			args = append(args, "--nats-"+f.flag+"="+NATSFolder+"/"+f.key)
		}
	}
	return args
}

// nats is Ebb's own store of events: one server, whose volume outlives it.
func nats(v Values) []client.Object {
	n := &v.NATS
	own, at := credentials(natsSecret, TLSFolder)
	claim := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: selector("nats")},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: n.Storage.Size}},
		},
	}
	if n.Storage.Class != "" {
		claim.Spec.StorageClassName = &n.Storage.Class
	}
	part := Part{Replicas: 1, Resources: n.Resources, NodeSelector: n.NodeSelector, Tolerations: n.Tolerations, Annotations: n.Annotations, Args: n.Args}
	return []client.Object{&appsv1.StatefulSet{
		TypeMeta: typeMeta(appsv1.SchemeGroupVersion, "StatefulSet"), ObjectMeta: named(NATSName, "nats"),
		Spec: appsv1.StatefulSetSpec{
			Replicas:             new(part.Replicas),
			RevisionHistoryLimit: new(int32(3)),
			ServiceName:          NATSName,
			Selector:             &metav1.LabelSelector{MatchLabels: selector("nats")},
			Template: podTemplate(v, pod{
				name: NATSName, component: "nats", image: v.Image.ref("ebb", v.Image.Digests.Ebb), part: &part,
				args: append([]string{
					"nats", "--listen=:" + strconv.Itoa(natsPort), "--data=/data", "--max-store=" + n.Storage.Promised.String(),
					"--metrics-listen=:" + strconv.Itoa(metricsPort),
				}, tlsArgs()...),
				ports: []corev1.ContainerPort{port("nats", natsPort)}, grace: 60,
				volumes: []corev1.Volume{own}, mounts: []corev1.VolumeMount{at, {Name: "data", MountPath: "/data"}},
			}),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{claim},
		},
	}}
}
