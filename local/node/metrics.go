package node

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"ebb.dev/ebb/local/metrics"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// serveMetrics answers metrics.k8s.io to the API server until the context ends.
func (n *Node) serveMetrics(ctx context.Context) error {
	return serveTLS(ctx, n.metrics, n.cfg.Metrics, metrics.Handler(measured{n}, metrics.NewMeter()))
}

// measured is a node as its meter sees it.
type measured struct{ n *Node }

func (m measured) Node(ctx context.Context) (*v1.Node, error) {
	return m.n.client.CoreV1().Nodes().Get(ctx, m.n.cfg.Name, metav1.GetOptions{})
}

func (m measured) Pods() []metrics.Pod {
	m.n.mu.Lock()
	all := make([]*pod, 0, len(m.n.pods))
	for _, p := range m.n.pods {
		all = append(all, p)
	}
	m.n.mu.Unlock()
	var out []metrics.Pod
	for _, p := range all {
		if one := p.measured(); len(one.Containers) > 0 {
			out = append(out, one)
		}
	}
	return out
}

// measured is the pod with those of its containers that run.
func (p *pod) measured() metrics.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := metrics.Pod{Namespace: p.obj.Namespace, Name: p.obj.Name, Labels: p.obj.Labels}
	for _, c := range p.all() {
		if c.current == nil || c.state.Running == nil {
			continue
		}
		one := metrics.Container{Name: c.spec.Name, Run: c.current.Dir, Started: c.current.State.Started, Shim: c.current.State.Shim.PID}
		if b, err := os.ReadFile(filepath.Join(c.current.Dir, groupsFile)); err == nil {
			if json.Unmarshal(b, &one.Groups) != nil {
				one.Groups = nil // its processes are counted instead
			}
		}
		out.Containers = append(out.Containers, one)
	}
	return out
}
