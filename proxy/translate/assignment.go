package translate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/rendezvous"
)

// Assignment is what the Revision's activators (its [Subset]) have to know of it: every pod that
// has an address. Which of them each activator may send to, where a pod may serve only so many
// requests at once, is not in it: see [Limit]. Pods have to be sorted by name.
func Assignment(rev *v1.Revision, pods []*corev1.Pod, subset []ir.Endpoint, draining func(pod string) bool, s *settings.Settings) *link.Revision {
	assignment := &link.Revision{
		Cluster:              clusterOf(rev),
		Namespace:            rev.Namespace,
		Name:                 rev.Name,
		ContainerConcurrency: uint32(concurrency(rev)),
		Protocol:             linkProtocol(protocol(rev)),
		Timeout:              durationpb.New(timeouts(rev, s).Request),
		Probe:                probe(rev),
		Failure:              failure(rev, pods),
	}
	tracing := s.Observability.Tracing
	assignment.TraceCollector = tracing.URL()
	port := containerPort(rev)
	for _, pod := range pods {
		endpoint, ok := podEndpoint(pod, port)
		if !ok {
			continue
		}
		leaving := pod.DeletionTimestamp != nil || draining(pod.Name)
		assignment.Pods = append(assignment.Pods, &link.Pod{
			Name:     pod.Name,
			Address:  endpoint.Address.Addr().String(),
			Port:     uint32(endpoint.Address.Port()),
			Ready:    isReady(pod),
			Draining: leaving,
			Start:    startTimes(pod, tracing.On()),
		})
	}
	for _, a := range subset {
		assignment.Activators = append(assignment.Activators, a.Name)
	}
	return assignment
}

// Limit is how many requests each pod may serve at once; 0 is any number. Where there
// is one, a pod belongs to one activator at a time.
func Limit(rev *v1.Revision) int { return int(concurrency(rev)) }

// Places is how many activators share the Revision: one for every activator-capacity requests that
// its pods are meant to carry at once, at least one. With a concurrency limit each of
// them needs a pod of its own, so they are never more than pods; without one, pods that are
// wished for count like those that are there.
func Places(rev *v1.Revision, pods []*corev1.Pod, s *settings.Settings) int {
	running := 0
	for _, pod := range pods {
		if _, ok := podEndpoint(pod, defaultPort); ok && pod.DeletionTimestamp == nil {
			running++
		}
	}
	limit := concurrency(rev)
	if limit == 0 && rev.Status.DesiredReplicas != nil {
		running = max(running, int(*rev.Status.DesiredReplicas))
	}
	each := float64(limit)
	if limit == 0 {
		each = targetConcurrency(rev, s)
	}
	places := int(math.Ceil(min(float64(running)*each/activatorCapacity(s), 1<<20)))
	if limit > 0 {
		places = min(places, running)
	}
	return max(places, 1)
}

// Subset are the activators that share the Revision, sorted by name: those that rank
// highest for it in a rendezvous hash, so that a change of the activators moves few Revisions.
func Subset(rev *v1.Revision, places int, activators []ir.Endpoint) []ir.Endpoint {
	if places == 1 && len(activators) > 0 { // the usual case, without sorting
		cluster, best := clusterOf(rev), 0
		for i := 1; i < len(activators); i++ {
			if outranks(cluster, activators[i].Name, activators[best].Name) {
				best = i
			}
		}
		return []ir.Endpoint{activators[best]}
	}
	ranked := slices.Clone(activators)
	cluster := clusterOf(rev)
	slices.SortFunc(ranked, func(a, b ir.Endpoint) int {
		if outranks(cluster, a.Name, b.Name) {
			return -1
		}
		return 1
	})
	ranked = ranked[:min(places, len(ranked))]
	slices.SortFunc(ranked, func(a, b ir.Endpoint) int { return cmp.Compare(a.Name, b.Name) })
	return ranked
}

// Enters tells whether an activator that is new belongs to the Revision's subset, which is as it
// was without it.
func Enters(cluster string, places int, subset []string, activator string) bool {
	return len(subset) < places || slices.ContainsFunc(subset, func(other string) bool { return outranks(cluster, activator, other) })
}

func outranks(cluster, a, b string) bool {
	x, y := rendezvous.Rank(cluster, a), rendezvous.Rank(cluster, b)
	return x > y || x == y && a < b
}

func linkProtocol(p ir.Protocol) link.Protocol {
	switch p {
	case ir.H2C:
		return link.Protocol_H2C
	case ir.Auto:
		return link.Protocol_AUTO
	default:
		return link.Protocol_HTTP1
	}
}

// probe is the container's readiness probe as an activator runs it. A port that is
// the container's own is left out, since the pod may have another one.
func probe(rev *v1.Revision) *link.Probe {
	container := userContainer(rev)
	p := container.ReadinessProbe
	if p == nil {
		return &link.Probe{}
	}
	encoded := &link.Probe{}
	if p.TimeoutSeconds > 0 {
		encoded.Timeout = durationpb.New(time.Duration(p.TimeoutSeconds) * time.Second)
	}
	port := int32(0)
	switch {
	case p.HTTPGet != nil:
		http := &link.Probe_HTTP{
			Path:  p.HTTPGet.Path,
			Host:  p.HTTPGet.Host,
			Https: p.HTTPGet.Scheme == corev1.URISchemeHTTPS,
		}
		for _, h := range p.HTTPGet.HTTPHeaders {
			if http.Headers == nil {
				http.Headers = map[string]string{}
			}
			http.Headers[h.Name] = h.Value
		}
		encoded.Kind = &link.Probe_Http{Http: http}
		port = p.HTTPGet.Port.IntVal // a named port is the container's only one
	case p.GRPC != nil:
		grpc := &link.Probe_GRPC{}
		if p.GRPC.Service != nil {
			grpc.Service = *p.GRPC.Service
		}
		encoded.Kind = &link.Probe_Grpc{Grpc: grpc}
		port = p.GRPC.Port
	case p.Exec != nil:
		encoded.Kind = &link.Probe_Kubelet_{Kubelet: &link.Probe_Kubelet{}}
	case p.TCPSocket != nil:
		port = p.TCPSocket.Port.IntVal
	}
	if validPort(int64(port)) && port != int32(containerPort(rev)) {
		encoded.Port = uint32(port)
	}
	return encoded
}

// failure is why no pod of the Revision can start, when that is known. What is known
// may be of an attempt that is over: at zero, and while no new pod is there that could
// fail, the next attempt has not failed yet, and requests are held for it. So they are while a pod that served is started again.
func failure(rev *v1.Revision, pods []*corev1.Pod) string {
	if desired := rev.Status.DesiredReplicas; desired != nil && *desired == 0 {
		return ""
	}
	c := rev.Status.Conditions.Get(v1.RevisionResourcesAvailable)
	// Without a Deployment (nil) the images could not be found.
	if !c.IsFalse() && (len(pods) > 0 || rev.Status.DesiredReplicas == nil) {
		if c = rev.Status.Conditions.Get(v1.RevisionContainerHealthy); rev.Status.DesiredReplicas != nil && hopeful(pods) {
			return ""
		}
	}
	if !c.IsFalse() {
		return ""
	}
	if c.Message == "" {
		return c.Reason
	}
	return c.Message
}
