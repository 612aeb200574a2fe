package publish

import (
	"context"
	"maps"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/xds"
)

// Drain makes exactly these pods of the revision DRAINING for every gateway and
// activator: they finish what they have and get nothing new. None takes all back. It
// returns when the change is in the discovery server; [Publisher.AwaitDrained] tells
// when it has arrived.
func (p *Publisher) Drain(namespace, revision string, pods []string) {
	name := types.NamespacedName{Namespace: namespace, Name: revision}
	marked := make(map[string]bool, len(pods))
	for _, pod := range pods {
		marked[pod] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if maps.Equal(marked, p.draining[name]) {
		return
	}
	if len(marked) == 0 {
		delete(p.draining, name)
	} else {
		p.draining[name] = marked
	}
	if err := p.translateRevision(name); err != nil {
		p.opts.Logger.Error("drain", "revision", name, "error", err)
	}
}

// AwaitDrained blocks until every gateway and every activator that knows the
// revision has acknowledged its endpoints as the cache and [Publisher.Drain] have them now, or until ctx ends.
func (p *Publisher) AwaitDrained(ctx context.Context, namespace, revision string) error {
	name := types.NamespacedName{Namespace: namespace, Name: revision}
	p.mu.Lock()
	err := p.translateRevision(name)
	entry := p.revisions[name]
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if entry == nil {
		return nil // nobody is told of a revision that is gone
	}
	return p.server.AwaitAcked(ctx,
		xds.Key{Type: xds.EndpointType, Name: entry.cluster},
		xds.Key{Type: link.RevisionType, Name: entry.cluster})
}
