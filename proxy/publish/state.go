package publish

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/ir"
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
	if err := p.read(key, current); err != nil {
		return 1, 1, nil
	}
	p.mu.Lock()
	entry := p.routes[key]
	if entry == nil || !sameInput(entry.source, current) {
		p.mu.Unlock()
		return 1, 1, nil
	}
	q := question{entry: &entry.served, problem: entry.problem, revisions: entry.revisions,
		wasReady: current.Status.Conditions.Get(v1.RouteIngressReady).IsTrue(),
		still:    func() bool { return p.routes[key] == entry && sameInput(entry.source, current) }}
	return p.answer(q)
}

// question is what is asked about one object.
type question struct {
	entry     *served
	problem   error
	revisions []types.NamespacedName // that its traffic goes to
	wasReady  bool
	still     func() bool // what was asked about is still what is published
}

// answer is called with the lock held, and lets go of it.
func (p *Publisher) answer(q question) (connected, pending int, rejected []string) {
	lost := p.hosts.explain(q.entry.lost)
	owners := []string{string(q.entry.owner)}
	for _, r := range q.revisions {
		owners = append(owners, string(translate.RevisionOwner(r.Namespace, r.Name)))
	}
	unread := p.awaitsCertificate(q.entry)
	lenient := q.entry.settled && q.wasReady && time.Since(p.unsettled) < p.opts.Grace
	p.mu.Unlock()

	var missing *translate.MissingRevisionError
	switch {
	case errors.Is(q.problem, errNoTraffic), errors.As(q.problem, &missing), errors.Is(q.problem, translate.ErrNotClaimed), errors.Is(q.problem, translate.ErrNoTarget):
		return 1, 1, nil
	case q.problem != nil:
		return 1, 1, append(lost, q.problem.Error())
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
	if unread {
		pending++
	}
	if lenient && len(rejected) == 0 {
		return max(connected, 1), 0, nil
	}
	if connected > 0 && pending == 0 && len(rejected) == 0 {
		p.mu.Lock()
		if q.still() {
			q.entry.settled = true
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
	if kind, revision := parseOwner(ir.Owner(owner)); kind == translate.RevisionKind {
		for route := range p.byRevision[revision] {
			p.changed(translate.RouteOwner(route.Namespace, route.Name))
			for mapping := range p.byTarget[route] {
				p.changed(translate.DomainMappingOwner(mapping.Namespace, mapping.Name))
			}
		}
		return
	}
	p.changed(ir.Owner(owner))
}

// settle ends the time of grace: from now on every object says what is.
func (p *Publisher) settle(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unsettled.IsZero() || now.Sub(p.unsettled) < p.opts.Grace {
		return
	}
	p.unsettled = time.Time{}
	for owner := range p.served {
		p.changed(owner)
	}
}
