package publish

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/proxy/ir"
)

// claims holds which Routes want a domain. The oldest has it, whatever the order in
// which they were seen; the others say so in their status and serve their other domains.
type claims map[ir.Domain][]types.NamespacedName

// claim replaces what a Route wants and returns what it gets: its route without the
// domains that older Routes have, and a sentence for each of those. A younger Route that
// serves a domain it now gets loses it at once; one that waits for a domain it lets go
// of is queued.
func (p *Publisher) claim(name types.NamespacedName, entry *routeEntry, route ir.Route) (ir.Route, []string) {
	wanted := domains(route)
	p.release(name, entry, wanted)
	entry.wanted = wanted
	var lost []string
	for _, d := range wanted {
		all := p.claims[d]
		if !slices.Contains(all, name) {
			all = append(all, name)
			slices.SortFunc(all, p.byAge)
			p.claims[d] = all
		}
		if all[0] != name {
			lost = append(lost, taken(d, all[0]))
			route = without(route, d)
			continue
		}
		for _, younger := range all[1:] {
			p.takeAway(younger, d, name)
		}
	}
	return route, lost
}

// release takes back a Route's claims but those to keep.
func (p *Publisher) release(name types.NamespacedName, entry *routeEntry, keep []ir.Domain) {
	for _, d := range entry.wanted {
		if slices.Contains(keep, d) {
			continue
		}
		all := p.claims[d]
		first := len(all) > 1 && all[0] == name
		all = slices.DeleteFunc(all, func(n types.NamespacedName) bool { return n == name })
		if len(all) == 0 {
			delete(p.claims, d)
			continue
		}
		p.claims[d] = all
		if first {
			p.queue.Add(key{routeKey, all[0]})
		}
	}
}

// takeAway withdraws a domain from a Route that serves it.
func (p *Publisher) takeAway(name types.NamespacedName, d ir.Domain, by types.NamespacedName) {
	entry := p.routes[name]
	if entry == nil || !slices.Contains(domains(entry.route), d) {
		return
	}
	route := without(entry.route, d)
	resources, err := encodeRoute(route, entry.generation)
	if err != nil {
		p.opts.Logger.Error("withdraw a host that an older route has", "route", name, "host", d.Host, "error", err)
		return
	}
	entry.lost = append(entry.lost, taken(d, by))
	p.replaceRoute(name, entry, route, resources)
	p.events.add(name)
}

func (p *Publisher) byAge(a, b types.NamespacedName) int {
	return cmp.Or(
		p.routes[a].source.CreationTimestamp.Compare(p.routes[b].source.CreationTimestamp.Time),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func taken(d ir.Domain, by types.NamespacedName) string {
	return fmt.Sprintf("host %s is that of Route %s, which is older: rename one of them, or change the host in config-network or config-domain", d.Host, by)
}

func domains(route ir.Route) []ir.Domain {
	var all []ir.Domain
	for _, host := range route.Hosts {
		all = append(all, host.Domains...)
	}
	return all
}

// without is a route that does not serve a domain; the one given stays as it is.
func without(route ir.Route, d ir.Domain) ir.Route {
	hosts := make([]ir.VirtualHost, 0, len(route.Hosts))
	for _, host := range route.Hosts {
		if slices.Contains(host.Domains, d) {
			host.Domains = slices.DeleteFunc(slices.Clone(host.Domains), func(have ir.Domain) bool { return have == d })
		}
		if len(host.Domains) > 0 {
			hosts = append(hosts, host)
		}
	}
	route.Hosts = hosts
	return route
}
