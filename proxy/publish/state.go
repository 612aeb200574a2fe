package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/translate"
)

// RouteState says how far the gateways are with the Route as the cache holds it:
// how many are connected, how many of them have not acknowledged it yet, and what was
// rejected, by them or before them, in words for a person. For a short time after a start,
// and after a gateway came or went, a Route that was Ready and has not changed since
// counts as acknowledged: a gateway that reconnects, or loads the world for the first time,
// changes the status of no Route.
func (p *Publisher) RouteState(namespace, name string) (connected, pending int, rejected []string) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	current := &v1.Route{}
	if err := p.opts.Cache.Get(context.Background(), key, current); err != nil {
		return 1, 1, nil
	}
	p.mu.Lock()
	entry := p.routes[key]
	if entry == nil || !sameInput(entry.source, current) {
		p.mu.Unlock()
		return 1, 1, nil
	}
	problem := entry.problem
	lost := p.hosts.explain(entry.lost)
	owners := []string{string(entry.route.Owner)}
	for _, r := range entry.revisions {
		owners = append(owners, string(translate.RevisionOwner(r.Namespace, r.Name)))
	}
	lenient := entry.settled && current.Status.Conditions.Get(v1.RouteIngressReady).IsTrue() && time.Since(p.unsettled) < p.opts.Grace
	p.mu.Unlock()

	var missing *translate.MissingRevisionError
	switch {
	case errors.Is(problem, errNoTraffic), errors.As(problem, &missing):
		return 1, 1, nil
	case problem != nil:
		return 1, 1, append(lost, problem.Error())
	}
	rejected = lost
	for _, owner := range owners {
		state := p.server.State(owner)
		connected = state.Gateways
		pending += state.Pending
		for _, r := range state.Rejected {
			rejected = append(rejected, fmt.Sprintf("gateway %s rejected %s: %s", r.Node, r.Name, r.Message))
		}
	}
	if lenient && len(rejected) == 0 {
		return max(connected, 1), 0, nil
	}
	if connected > 0 && pending == 0 && len(rejected) == 0 {
		p.mu.Lock()
		if p.routes[key] == entry && sameInput(entry.source, current) {
			entry.settled = true
		}
		p.mu.Unlock()
	}
	return connected, pending, rejected
}

// onState is called by the discovery server when what State says of an owner may
// have changed; with no owner when a gateway came or went.
func (p *Publisher) onState(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if owner == "" {
		p.unsettled = time.Now()
		return
	}
	kind, namespaced, _ := strings.Cut(owner, "/")
	namespace, name, _ := strings.Cut(namespaced, "/")
	object := types.NamespacedName{Namespace: namespace, Name: name}
	switch kind {
	case translate.RouteKind:
		p.events.add(object)
	case translate.RevisionKind:
		for route := range p.byRevision[object] {
			p.events.add(route)
		}
	}
}

// settle ends the time of grace: from now on every Route says what is.
func (p *Publisher) settle(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unsettled.IsZero() || now.Sub(p.unsettled) < p.opts.Grace {
		return
	}
	p.unsettled = time.Time{}
	for name := range p.routes {
		p.events.add(name)
	}
}
