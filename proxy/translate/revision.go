package translate

import (
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
)

// defaultPort is where a container listens that names no port.
const defaultPort = 8080

// Revision is the cluster of a Revision.
func Revision(rev *v1.Revision) ir.Cluster {
	return ir.Cluster{
		Name:     clusterOf(rev),
		Owner:    RevisionOwner(rev.Namespace, rev.Name),
		Protocol: protocol(rev),
		Stats:    ir.RevisionStats(rev.Namespace, rev.Labels[serving.ServiceLabel], rev.Name),
	}
}

// Direct tells whether gateways may send to the Revision's pods themselves. They
// may not where a limit has to be exact, or where the Revision wants the activator in
// the path always.
func Direct(rev *v1.Revision, s *settings.Settings) bool {
	if concurrency(rev) > 0 && rev.Annotations[serving.ConcurrencyAnnotation] != serving.ConcurrencySoft {
		return false
	}
	return targetBurstCapacity(rev, s) != -1
}

// Endpoints are the Revision's endpoints as gateways see them: its pods, where it
// is [Direct], and behind them its activators, the [Subset]. Pods have to be sorted by name;
// draining tells of a pod that it is to get nothing new.
//
// A pod is there once it is Ready. One that drains or ends stays, marked, with what it
// still serves, as long as it has an address.
func Endpoints(rev *v1.Revision, pods []*corev1.Pod, subset []ir.Endpoint, draining func(pod string) bool, s *settings.Settings) ir.Endpoints {
	endpoints := ir.Endpoints{Cluster: clusterOf(rev), Owner: RevisionOwner(rev.Namespace, rev.Name)}
	endpoints.Priorities[1] = subset
	if !Direct(rev, s) {
		return endpoints
	}
	port := containerPort(rev)
	for _, pod := range pods {
		endpoint, ok := podEndpoint(pod, port)
		if !ok {
			continue
		}
		switch leaving := pod.DeletionTimestamp != nil || draining(pod.Name); {
		case leaving && hasRun(pod):
			endpoint.Health = ir.Draining
		case leaving || !isReady(pod):
			continue
		}
		endpoints.Priorities[0] = append(endpoints.Priorities[0], endpoint)
	}
	return endpoints
}

func clusterOf(rev *v1.Revision) string {
	return ir.RevisionCluster(rev.Namespace, rev.Name, string(rev.UID))
}

// userContainer is the container that serves: the one with a port, or the first.
func userContainer(rev *v1.Revision) *corev1.Container {
	for i := range rev.Spec.Containers {
		if len(rev.Spec.Containers[i].Ports) > 0 {
			return &rev.Spec.Containers[i]
		}
	}
	if len(rev.Spec.Containers) > 0 {
		return &rev.Spec.Containers[0]
	}
	return &corev1.Container{}
}

func containerPort(rev *v1.Revision) uint16 {
	if c := userContainer(rev); len(c.Ports) > 0 && validPort(int64(c.Ports[0].ContainerPort)) {
		return uint16(c.Ports[0].ContainerPort)
	}
	return defaultPort
}

func validPort(port int64) bool { return port > 0 && port < 1<<16 }

// protocol is what the port's name says; without one it is HTTP/1.1.
func protocol(rev *v1.Revision) ir.Protocol {
	if c := userContainer(rev); len(c.Ports) > 0 && c.Ports[0].Name == "h2c" {
		return ir.H2C
	}
	return ir.HTTP1
}

func concurrency(rev *v1.Revision) int64 {
	if rev.Spec.ContainerConcurrency == nil {
		return 0
	}
	return *rev.Spec.ContainerConcurrency
}

// podEndpoint is where the pod serves, when it has an address and has not ended. The
// pod's own annotation wins over the port of the spec.
func podEndpoint(pod *corev1.Pod, port uint16) (ir.Endpoint, bool) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return ir.Endpoint{}, false
	}
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return ir.Endpoint{}, false
	}
	if own, err := strconv.ParseUint(pod.Annotations[serving.PortAnnotation], 10, 16); err == nil && own > 0 {
		port = uint16(own)
	}
	return ir.Endpoint{Name: pod.Name, Address: netip.AddrPortFrom(ip.Unmap(), port)}, true
}

func isReady(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// hasRun tells whether the pod may have served: it is Ready, or one of its containers
// runs or ran. A pod that ends is no longer Ready while it still finishes requests.
func hasRun(pod *corev1.Pod) bool {
	if isReady(pod) {
		return true
	}
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		if c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil {
			return true
		}
	}
	return false
}
