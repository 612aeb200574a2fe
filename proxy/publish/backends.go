package publish

import (
	"slices"

	"ebb.dev/ebb/proxy/ir"
)

// Backends says where requests for a host go that come from inside the cluster, or by the external host of a Route: the
// clusters of Revisions with their percentages. None where nobody serves the host.
func (p *Publisher) Backends(host string) []ir.Backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, audience := range []ir.Audience{ir.Internal, ir.External} {
		d := ir.Domain{Host: host, Audience: audience}
		if len(p.hosts[d]) == 0 {
			continue
		}
		entry := p.served[p.hosts.holder(d)]
		if entry == nil {
			continue
		}
		for _, h := range entry.whole.Hosts {
			if slices.Contains(h.Domains, d) {
				return backends(h)
			}
		}
	}
	return nil
}

// backends are those of requests without special headers.
func backends(h ir.VirtualHost) []ir.Backend {
	for _, r := range slices.Backward(h.Rules) {
		if len(r.Backends) > 0 && len(r.Match.Headers) == 0 && r.Match.PathPrefix == "" {
			return r.Backends
		}
	}
	return nil
}

// moved tells of the hosts that an object had or has.
func (p *Publisher) moved(before, now []ir.Domain) {
	hosts := make([]string, 0, len(now))
	for _, d := range slices.Concat(before, now) {
		if !slices.Contains(hosts, d.Host) {
			hosts = append(hosts, d.Host)
		}
	}
	if len(hosts) > 0 {
		p.opts.Moved(hosts)
	}
}
