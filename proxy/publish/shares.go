package publish

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/shares"
)

// divide gives each pod of a Revision with a concurrency limit to one of its activators, or
// to one that holds requests of it and is none of them. Those that have to give up a pod
// are told when the assignment is in the server.
func (p *Publisher) divide(name types.NamespacedName, assignment *link.Revision, limit int) []shares.Move {
	cluster := assignment.GetCluster()
	ledger := p.ledger(cluster)
	var among []string
	for _, a := range assignment.GetActivators() {
		if id := p.idOf(a); id != "" {
			among = append(among, id)
		}
	}
	own := len(among)
	for id := range p.waiting[cluster] {
		if p.present(id) && !slices.Contains(among[:own], id) {
			among = append(among, id)
		}
	}
	current := make([]shares.Pod, 0, len(assignment.GetPods()))
	for _, pod := range assignment.GetPods() {
		current = append(current, shares.Pod{Name: pod.GetName(), Active: !pod.GetDraining()})
	}
	var moves []shares.Move
	var again time.Duration
	if p.sharing {
		moves, again = ledger.Assign(time.Now(), limit, current, among, p.waiting[cluster])
	}
	for _, pod := range assignment.GetPods() {
		owner, turn, elsewhere := ledger.Of(pod.GetName(), limit)
		pod.Activator, pod.Turn, pod.Elsewhere = owner, turn, uint32(elsewhere)
	}
	p.mention(cluster)
	if again > 0 {
		time.AfterFunc(again, func() { p.queue.Add(key{kind: revisionKey, name: name}) })
	}
	return moves
}

func (p *Publisher) ledger(cluster string) *shares.Ledger {
	l := p.ledgers[cluster]
	if l == nil {
		l = shares.New(p.floor)
		p.ledgers[cluster] = l
	}
	return l
}

// mention keeps the index from activators to the ledgers that they are in.
func (p *Publisher) mention(cluster string) {
	now := p.ledgers[cluster].Mentions()
	for id := range p.mentionedBy[cluster] {
		if _, still := now[id]; !still {
			delete(p.mentions[id], cluster)
			if len(p.mentions[id]) == 0 {
				delete(p.mentions, id)
			}
		}
	}
	for id := range now {
		if p.mentions[id] == nil {
			p.mentions[id] = map[string]struct{}{}
		}
		p.mentions[id][cluster] = struct{}{}
	}
	p.mentionedBy[cluster] = now
}

// mentioned adds the Revisions that a process has, or had, pods of.
func (p *Publisher) mentioned(id string, to map[types.NamespacedName]bool) {
	for cluster := range p.mentions[id] {
		if name, ok := p.byCluster[cluster]; ok {
			to[name] = true
		}
	}
}

// release asks activators to give pods up.
func (p *Publisher) release(cluster string, moves []shares.Move) {
	if p.opts.Activators == nil {
		return
	}
	for _, m := range moves {
		p.opts.Activators.Release(m.From, &link.Release{Cluster: cluster, Pod: m.Pod, Turn: m.Turn})
	}
}

// forgetShares forgets who has the pods of a Revision that is gone, or has no limit.
func (p *Publisher) forgetShares(cluster string) {
	for id := range p.mentionedBy[cluster] {
		delete(p.mentions[id], cluster)
		if len(p.mentions[id]) == 0 {
			delete(p.mentions, id)
		}
	}
	delete(p.mentionedBy, cluster)
	delete(p.ledgers, cluster)
	delete(p.waiting, cluster)
}
