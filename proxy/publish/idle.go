package publish

import (
	"time"

	"ebb.dev/ebb/proxy/xds"
)

// onSubscribe is called by the discovery server when a gateway asks for a Route's configuration or lets go of it.
func (p *Publisher) onSubscribe(typeURL, name string, on bool) {
	if typeURL != xds.RouteType {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.routes[p.byRoute[name]]
	if entry == nil {
		return
	}
	if on {
		entry.gateways++
		entry.used = time.Now()
	} else if entry.gateways > 0 {
		entry.gateways--
	}
	p.events.add(p.byRoute[name])
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
	}
}

// takeBackIdle takes the configuration of Routes that nobody called for a while back
// from the gateways. The scopes are replaced by equal ones under new names, in one
// response, so that a request at that moment finds one or the other; a gateway lets
// go of the configuration, and of the clusters only it needed, with the old scopes,
// and asks again when the next request comes.
func (p *Publisher) takeBackIdle(now time.Time) {
	if p.opts.IdleAfter <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, entry := range p.routes {
		if entry.gateways == 0 || now.Sub(entry.used) < p.opts.IdleAfter {
			continue
		}
		resources, err := encodeRoute(entry.route, entry.generation+1)
		if err != nil {
			p.opts.Logger.Error("take configuration back", "route", name, "error", err)
			continue
		}
		entry.generation++
		p.replaceRoute(name, entry, entry.route, resources)
		p.opts.Logger.Info("configuration taken back, the route is idle", "route", name)
	}
}
