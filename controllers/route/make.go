package route

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// makeServices are the Services that give the Route and each of its tags an in-cluster
// name: an alias of gateway, the in-cluster gateway's DNS name. They are sorted by name.
func makeServices(r *v1.Route, traffic []v1.TrafficTarget, s *settings.Settings, gateway string) ([]*corev1.Service, error) {
	names := []string{r.Name}
	local := name(r)
	local.Labels = map[string]string{}
	maps.Copy(local.Labels, r.Labels)
	local.Labels[serving.VisibilityLabel] = serving.VisibilityClusterLocal
	for _, t := range traffic {
		if t.Tag == "" {
			continue
		}
		host, err := s.TagHost(t.Tag, local)
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimSuffix(host, "."+r.Namespace+"."+settings.ClusterLocalDomain))
	}
	slices.Sort(names)
	var out []*corev1.Service
	for _, n := range slices.Compact(names) {
		out = append(out, makeService(r, n, gateway))
	}
	return out, nil
}

func makeService(r *v1.Route, name, gateway string) *corev1.Service {
	// Visibility is left out: on a tag's Service it would be said of that tag alone.
	labels := map[string]string{}
	maps.Copy(labels, r.Labels)
	delete(labels, serving.VisibilityLabel)
	labels[serving.RouteLabel] = r.Name
	annotations := map[string]string{}
	for k, v := range r.Annotations {
		switch group, _, _ := strings.Cut(k, "/"); {
		case group == serving.GroupName, group == serving.AutoscalingGroup, group == serving.EbbGroupName, k == corev1.LastAppliedConfigAnnotation:
		default:
			annotations[k] = v
		}
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: r.Namespace, Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r, v1.GroupVersion.WithKind(v1.KindRoute))},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeExternalName, ExternalName: gateway, SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(80)}},
		},
	}
}
