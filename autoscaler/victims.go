package autoscaler

import (
	"cmp"
	"slices"
	"time"
)

// victims chooses the n pods to give up, in the order in which they go: those that do not serve first (as Kubernetes
// does), then those already draining, then the fewest requests in flight, then the youngest.
func victims(pods []Pod, n int, marked map[string]time.Time, inFlight func(Pod) int) []Pod {
	if n <= 0 {
		return nil
	}
	type candidate struct {
		Pod
		load, idle, draining int
	}
	all := make([]candidate, 0, len(pods))
	for _, p := range pods {
		c := candidate{Pod: p, load: inFlight(p)}
		switch {
		case !p.Running:
			c.idle = 0
		case !p.Ready:
			c.idle = 1
		default:
			c.idle = 2
		}
		if _, ok := marked[p.Name]; !ok {
			c.draining = 1
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.idle, b.idle),
			cmp.Compare(a.draining, b.draining),
			cmp.Compare(a.load, b.load),
			b.Created.Compare(a.Created),
			cmp.Compare(a.Name, b.Name),
		)
	})
	out := make([]Pod, 0, n)
	for _, c := range all[:min(n, len(all))] {
		out = append(out, c.Pod)
	}
	return out
}
