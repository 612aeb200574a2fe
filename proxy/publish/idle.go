package publish

import (
	"time"

	"ebb.dev/ebb/proxy/xds"
)

// onSubscribe is called by the discovery server when a first gateway asks for a
// Route's configuration, and when the last one has let go of it.
func (p *Publisher) onSubscribe(typeURL, name string, on bool) {
	if typeURL != xds.RouteType {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.served[p.byRoute[name]]
	if entry == nil {
		return
	}
	if entry.loaded = on; on {
		entry.used = time.Now()
	}
	p.changed(entry.owner)
}

// Used notes that a revision's cluster had a request.
func (p *Publisher) Used(cluster string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for route := range p.byRevision[p.byCluster[cluster]] {
		if entry := p.routes[route]; entry != nil {
			entry.used = now
		}
		for mapping := range p.byTarget[route] {
			if entry := p.mappings[mapping]; entry != nil {
				entry.used = now
			}
		}
	}
}

// takeBackIdle takes the configuration of Routes that nobody called for a while back
// from the gateways that have it. Nothing happens on a gateway that is just loading it; it is asked again
// the next time, as long as any gateway has it.
func (p *Publisher) takeBackIdle(now time.Time) {
	if p.opts.IdleAfter <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for owner, entry := range p.served {
		if !entry.loaded || now.Sub(entry.used) < p.opts.IdleAfter {
			continue
		}
		if n := p.server.TakeBack(xds.Key{Type: xds.RouteType, Name: entry.route.Name}); n > 0 {
			p.opts.Logger.Info("configuration taken back, it is idle", "object", owner, "gateways", n)
		}
	}
}
