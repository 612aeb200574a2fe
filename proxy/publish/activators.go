package publish

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
)

// toldWithin bounds how long a change of the activators waits for gateways that do not answer.
const toldWithin = 3 * time.Second

// Members takes in who the activators are: those that gateways use, and those that
// leave. A new one is used when gateways know the way to it; one that leaves or is gone, not any
// more, and only the Revisions that it had are translated again.
func (p *Publisher) Members(all []members.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range all {
		p.slots = max(p.slots, m.Slot+1)
	}
	use := slices.DeleteFunc(slices.Clone(all), func(m members.Member) bool { return m.Leaving })
	leaving := slices.DeleteFunc(slices.Clone(all), func(m members.Member) bool { return !m.Leaving })
	others := len(use)
	ways := all
	if others == 0 { // the last ones are used whatever they say: gateways wait for them, or for the next
		use = slices.Clone(all)
		for i := range use {
			use[i].Leaving = false
		}
		ways = use
	}
	told := p.publishHolds(p.slots, ways)

	before, ids := p.activators, p.ids
	p.members, p.ids = use, map[string]string{}
	for _, m := range use {
		p.ids[m.Name] = m.ID
	}
	touched := map[types.NamespacedName]bool{}
	gone := func(name string) {
		maps.Copy(touched, p.byActivator[name])
		p.mentioned(ids[name], touched)
	}
	for _, a := range before {
		if _, still := p.ids[a.Name]; !still {
			gone(a.Name)
		} else if ids[a.Name] != p.ids[a.Name] {
			gone(a.Name) // another process: it has what is new to it
		}
	}
	p.activators = slices.DeleteFunc(slices.Clone(before), func(a ir.Endpoint) bool { _, still := p.ids[a.Name]; return !still })
	if !p.opened {
		p.activators = endpointsOf(use) // nobody has been told anything yet
		for name := range p.revisions {
			p.queue.Add(key{kind: revisionKey, name: name})
		}
		return
	}
	go p.reassign(told, touched, use, leaving, others)
}

func endpointsOf(all []members.Member) []ir.Endpoint {
	endpoints := make([]ir.Endpoint, len(all))
	for i, m := range all {
		endpoints[i] = ir.Endpoint{Name: m.Name, Address: m.Address, Hold: holdOf(m.Slot)}
	}
	return endpoints
}

// reassign moves Revisions to other activators: those touched at once, and those that new activators
// have part in when gateways have been told the way. Activators that leave hear when no gateway uses them,
// whatever else is waited for.
func (p *Publisher) reassign(told []xds.Key, touched map[types.NamespacedName]bool, use, leaving []members.Member, others int) {
	for name := range touched {
		p.publishRevision(name)
	}
	if len(leaving) > 0 && p.opts.Activators != nil {
		p.await(p.endpointsOf(touched))
		for _, m := range leaving {
			p.opts.Activators.Left(m.ID, others)
		}
	}
	p.admitting.Lock()
	defer p.admitting.Unlock()
	p.await(told)
	for name := range p.admit(use) {
		p.publishRevision(name)
	}
}

// await waits until gateways have acknowledged; one that rejects something, or is silent, does not stop the others.
func (p *Publisher) await(keys []xds.Key) {
	ctx, cancel := context.WithTimeout(context.Background(), toldWithin)
	defer cancel()
	if err := p.server.AwaitAcked(ctx, keys...); err != nil {
		p.opts.Logger.Warn("activators changed, and not every gateway has acknowledged what it was told", "error", err)
	}
}

func (p *Publisher) endpointsOf(revisions map[types.NamespacedName]bool) []xds.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	var keys []xds.Key
	for name := range revisions {
		if entry := p.revisions[name]; entry != nil {
			keys = append(keys, xds.Key{Type: xds.EndpointType, Name: entry.cluster})
		}
	}
	return keys
}

// admit lets activators be used that gateways have been told the way to, unless they are gone
// meanwhile, and returns the Revisions that they have part in.
func (p *Publisher) admit(told []members.Member) map[types.NamespacedName]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	touched := map[types.NamespacedName]bool{}
	var next []ir.Endpoint
	for _, a := range endpointsOf(p.members) {
		i := slices.IndexFunc(p.activators, func(b ir.Endpoint) bool { return b.Name == a.Name })
		isTold := slices.ContainsFunc(told, func(m members.Member) bool { return m.Name == a.Name && m.Slot == slotOf(p.members, a.Name) })
		switch {
		case !isTold && i < 0:
			continue // a later call will
		case !isTold:
			a = p.activators[i]
		case i < 0:
			for name, entry := range p.revisions {
				if translate.Enters(entry.cluster, entry.places, entry.activators, a.Name) {
					touched[name] = true
				}
			}
		case p.activators[i] != a:
			maps.Copy(touched, p.byActivator[a.Name])
		}
		next = append(next, a)
	}
	p.activators = next
	return touched
}

func slotOf(all []members.Member, name string) int {
	for _, m := range all {
		if m.Name == name {
			return m.Slot
		}
	}
	return -1
}

// assigned notes which activators a Revision has, to find it by them.
func (p *Publisher) assigned(name types.NamespacedName, entry *revisionEntry, activators []string) {
	for _, a := range entry.activators {
		if !slices.Contains(activators, a) {
			delete(p.byActivator[a], name)
			if len(p.byActivator[a]) == 0 {
				delete(p.byActivator, a)
			}
		}
	}
	for _, a := range activators {
		if p.byActivator[a] == nil {
			p.byActivator[a] = map[types.NamespacedName]bool{}
		}
		p.byActivator[a][name] = true
	}
	entry.activators = activators
}

// Gone takes in that an activator's process has ended and has nothing on any pod.
func (p *Publisher) Gone(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	touched := map[types.NamespacedName]bool{}
	p.mentioned(id, touched)
	for cluster := range p.mentions[id] {
		p.ledgers[cluster].Gone(id)
	}
	delete(p.mentions, id)
	for name := range touched {
		p.queue.Add(key{kind: revisionKey, name: name})
	}
	for cluster, waiting := range p.waiting {
		if _, waits := waiting[id]; waits {
			p.waits(id, cluster, false)
		}
	}
}

// Turn takes in the highest turn that somebody has heard of: whatever an earlier leader's clock said, turns go on from there.
func (p *Publisher) Turn(turn uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if turn <= p.floor {
		return
	}
	p.floor = turn
	for _, l := range p.ledgers {
		l.Raise(turn)
	}
}

// Shares takes in what an activator has on pods.
func (p *Publisher) Shares(id string, shares []*link.Share, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	changed := map[string]bool{}
	for _, s := range shares {
		ledger := p.ledgers[s.GetCluster()]
		if found {
			if ledger == nil {
				if p.opened && p.byCluster[s.GetCluster()] == (types.NamespacedName{}) {
					continue // of a Revision that is gone
				}
				ledger = p.ledger(s.GetCluster())
			}
			ledger.Found(now, id, s.GetPod(), s.GetTurn(), s.GetMine(), int(s.GetInFlight()))
			p.mention(s.GetCluster())
			changed[s.GetCluster()] = true
		} else if ledger != nil && ledger.Said(now, id, s.GetPod(), s.GetTurn(), int(s.GetInFlight())) {
			changed[s.GetCluster()] = true
		}
	}
	if found {
		for cluster := range p.mentions[id] {
			p.release(cluster, p.ledgers[cluster].Owed(id))
		}
	}
	for cluster := range changed {
		p.requeue(cluster)
	}
}

// Waits takes in of which revisions an activator holds requests that it cannot pass on.
func (p *Publisher) Waits(id string, waiting []*link.Waiting, anew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if anew {
		for cluster, by := range p.waiting {
			if _, waits := by[id]; waits {
				p.waits(id, cluster, false)
			}
		}
	}
	for _, w := range waiting {
		p.waits(id, w.GetCluster(), w.GetOn())
	}
}

func (p *Publisher) waits(id, cluster string, on bool) {
	by := p.waiting[cluster]
	_, was := by[id]
	switch {
	case on == was:
		return
	case on:
		if p.opened && p.byCluster[cluster] == (types.NamespacedName{}) {
			return
		}
		if by == nil {
			by = map[string]time.Time{}
			p.waiting[cluster] = by
		}
		by[id] = time.Now()
	default:
		delete(by, id)
		if len(by) == 0 {
			delete(p.waiting, cluster)
		}
	}
	p.requeue(cluster)
}

func (p *Publisher) requeue(cluster string) {
	if name, ok := p.byCluster[cluster]; ok {
		p.queue.Add(key{kind: revisionKey, name: name})
	}
}

// idOf is the process that has an activator's name now, "" if none is there.
func (p *Publisher) idOf(name string) string { return p.ids[name] }

// present tells whether a process is one of the activators in use.
func (p *Publisher) present(id string) bool {
	name, _, _ := strings.Cut(id, "@")
	return id != "" && p.ids[name] == id
}
