package publish

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
)

// served is what was last published of an object with hosts: a Route or a DomainMapping.
type served struct {
	owner   ir.Owner
	created time.Time
	uid     types.UID

	whole   ir.Route                        // as translated
	route   ir.Route                        // as published: whole, but for the hosts of older objects
	lost    []ir.Domain                     // those
	keys    []xds.Key                       // the resources it has in the server
	secrets map[string]types.NamespacedName // where the certificate of a host is to be found

	settled bool // every gateway had acknowledged what is published now, or a former leader said so
	loaded  bool // some gateway has, or asks for, its configuration
	used    time.Time
}

// serve publishes what the object may have of whole, and what that gives to or takes
// from others that claim its hosts, in one update: a host that changes hands is never without a
// owner and never has two. It costs the object, and those who claim the same hosts. On
// an error nothing changes.
func (p *Publisher) serve(entry *served, whole ir.Route) error {
	c := claim{owner: entry.owner, created: entry.created, uid: entry.uid}
	before, now := domains(entry.whole), domains(whole)
	others := p.hosts.change(c, before, now)
	var u update
	if err := p.encode(&u, entry, whole); err != nil {
		p.hosts.change(c, now, before)
		return err
	}
	entry.whole = whole
	p.byRoute[whole.Name] = entry.owner
	p.encodeAll(&u, others)
	p.commit(&u)
	p.moved(before, now)
	return nil
}

// update is what is to be given to the server at once.
type update struct {
	set    []*xds.Resource
	remove []xds.Key
	after  []func()
}

// encode adds what the object has to serve of whole, with the certificates of its hosts. Nothing is noted before commit.
func (p *Publisher) encode(u *update, entry *served, whole ir.Route) error {
	share, lost := p.hosts.share(entry.owner, whole)
	var resources []*xds.Resource
	if len(share.Hosts) > 0 {
		var err error
		if resources, err = encodeRoute(share); err != nil {
			return err
		}
		certificates, err := p.encodeCertificates(entry, share)
		if err != nil {
			return err
		}
		resources = append(resources, certificates...)
	}
	keys := make([]xds.Key, len(resources))
	for i, r := range resources {
		keys[i] = r.Key
	}
	for _, k := range entry.keys {
		if !slices.Contains(keys, k) {
			u.remove = append(u.remove, k)
		}
	}
	u.set = append(u.set, resources...)
	u.after = append(u.after, func() {
		if !reflect.DeepEqual(entry.route, share) {
			entry.settled = !p.opened
		}
		entry.route, entry.lost, entry.keys = share, lost, keys
	})
	return nil
}

func (p *Publisher) encodeAll(u *update, owners []ir.Owner) {
	for _, owner := range owners {
		entry := p.served[owner]
		if err := p.encode(u, entry, entry.whole); err != nil {
			p.opts.Logger.Error("it is not published; what was published before goes on", "object", owner, "error", err)
		}
		p.changed(owner)
	}
}

func (p *Publisher) commit(u *update) {
	for _, f := range u.after {
		f()
	}
	// The certificate of a host that changed hands has the same name under its new owner.
	u.remove = slices.DeleteFunc(u.remove, func(k xds.Key) bool {
		return slices.ContainsFunc(u.set, func(r *xds.Resource) bool { return r.Key == k })
	})
	p.server.Update(u.set, u.remove)
}

// forget withdraws all that an object has; its hosts go to whoever is next.
func (p *Publisher) forget(entry *served) {
	p.useSecrets(entry, "", nil)
	p.withdraw(entry)
	delete(p.served, entry.owner)
}

// withdraw takes back all that is published of an object that stays.
func (p *Publisher) withdraw(entry *served) {
	delete(p.byRoute, entry.whole.Name)
	u := update{remove: slices.Clone(entry.keys)}
	before := domains(entry.whole)
	p.encodeAll(&u, p.hosts.change(claim{owner: entry.owner}, before, nil))
	p.commit(&u)
	p.moved(before, nil)
	entry.whole, entry.route, entry.lost, entry.keys = ir.Route{}, ir.Route{}, nil, nil
}

// changed tells the controller of the object that its state may be another.
func (p *Publisher) changed(owner ir.Owner) {
	kind, name := parseOwner(owner)
	switch kind {
	case translate.RouteKind:
		p.events.add(name)
	case translate.DomainMappingKind:
		p.mappingEvents.add(name)
	}
}

func parseOwner(owner ir.Owner) (kind string, name types.NamespacedName) {
	kind, namespaced, _ := strings.Cut(string(owner), "/")
	name.Namespace, name.Name, _ = strings.Cut(namespaced, "/")
	return kind, name
}

// encodeRoute makes the scopes, which every gateway gets, and the configuration they lead to, which a gateway asks for.
// A route without a host needs neither.
func encodeRoute(route ir.Route) ([]*xds.Resource, error) {
	if len(route.Hosts) == 0 {
		return nil, nil
	}
	scopes, err := envoy.Scopes(route)
	if err != nil {
		return nil, err
	}
	configuration, err := envoy.RouteConfiguration(route)
	if err != nil {
		return nil, err
	}
	// A scope that changed while a gateway loads what is behind it would leave the
	// request that waits for that hanging: the server holds such a change back.
	behind := xds.WithNeeds(xds.Key{Type: xds.RouteType, Name: configuration.GetName()})
	resources := make([]*xds.Resource, 0, len(scopes)+1)
	for _, s := range scopes {
		r, err := xds.NewResource(s.GetName(), s, xds.WithOwner(string(route.Owner)), behind)
		if err != nil {
			return nil, err
		}
		resources = append(resources, r)
	}
	r, err := xds.NewResource(configuration.GetName(), configuration,
		xds.WithOwner(string(route.Owner)), xds.WithNeeds(clusterKeys(route)...), xds.AsLazy())
	if err != nil {
		return nil, err
	}
	return append(resources, r), nil
}

func clusterKeys(route ir.Route) []xds.Key {
	var keys []xds.Key
	for _, host := range route.Hosts {
		for _, rule := range host.Rules {
			for _, backend := range rule.Backends {
				k := xds.Key{Type: xds.ClusterType, Name: backend.Cluster}
				if !slices.Contains(keys, k) {
					keys = append(keys, k)
				}
			}
		}
	}
	return keys
}
