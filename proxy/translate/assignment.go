package translate

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// spread is how many activators share a Revision without a concurrency limit: the
// second is there when the first dies.
const spread = 2

// Assignment is what the Revision's activators have to know of it: every pod that
// has an address, and, where each pod may serve only so many requests at once, which
// activator alone sends to it. Pods have to be sorted by name.
func Assignment(rev *v1.Revision, pods []*corev1.Pod, activators []ir.Endpoint, draining func(pod string) bool, s *settings.Settings) *link.Revision {
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
		})
	}
	for _, a := range subset(rev, pods, activators, s) {
		assignment.Activators = append(assignment.Activators, a.Name)
	}
	if concurrency(rev) > 0 {
		divide(assignment.Pods, assignment.Activators)
	}
	return assignment
}

// subset are the activators that share the Revision, sorted by name: those that rank
// highest for it in a rendezvous hash, so that a change of the activators moves few
// Revisions. With a concurrency limit each of them needs pods of its own, so there is
// one, and one more for every activator-capacity requests that the pods can serve at once,
// but never more than pods.
func subset(rev *v1.Revision, pods []*corev1.Pod, activators []ir.Endpoint, s *settings.Settings) []ir.Endpoint {
	n := spread
	if limit := concurrency(rev); limit > 0 {
		running := 0
		for _, pod := range pods {
			if _, ok := podEndpoint(pod, defaultPort); ok && pod.DeletionTimestamp == nil {
				running++
			}
		}
		n = min(1+int(float64(int64(running)*limit)/activatorCapacity(s)), max(running, 1))
	}
	ranked := slices.Clone(activators)
	cluster := clusterOf(rev)
	slices.SortFunc(ranked, func(a, b ir.Endpoint) int {
		return cmp.Or(cmp.Compare(rank(cluster, b.Name), rank(cluster, a.Name)), cmp.Compare(a.Name, b.Name))
	})
	ranked = ranked[:min(n, len(ranked))]
	slices.SortFunc(ranked, func(a, b ir.Endpoint) int { return cmp.Compare(a.Name, b.Name) })
	return ranked
}

// divide gives each pod to exactly one activator. No activator gets more than its
// even share; within that each pod goes to the activator that ranks highest for it.
func divide(pods []*link.Pod, activators []string) {
	if len(activators) == 0 {
		return
	}
	share := (len(pods) + len(activators) - 1) / len(activators)
	fewest, more := len(pods)/len(activators), len(pods)%len(activators)
	has := make(map[string]int, len(activators))
	for _, pod := range pods {
		best, bestRank := "", uint64(0)
		for _, a := range activators {
			if has[a] >= share || (has[a] >= fewest && more == 0) {
				continue
			}
			if r := rank(pod.Name, a); best == "" || r > bestRank {
				best, bestRank = a, r
			}
		}
		if has[best] == fewest {
			more--
		}
		has[best]++
		pod.Activator = best
	}
}

// rank is the weight of one pair in a rendezvous hash.
func rank(key, activator string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write([]byte(activator))
	// FNV's last bytes hardly reach its high bits; this is the end of MurmurHash3.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
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
