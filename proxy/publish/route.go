package publish

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
)

// routeEntry is what was last published of a Route.
type routeEntry struct {
	source    *v1.Route   // the object that was translated last, for better or worse
	problem   error       // why source could not be translated; what was published before goes on
	whole     ir.Route    // as translated
	route     ir.Route    // as published: whole, but for the hosts of older Routes
	lost      []ir.Domain // those
	keys      []xds.Key   // the resources it has in the server
	revisions []types.NamespacedName

	settled bool // every gateway had acknowledged what is published now, or a former leader said so
	loaded  bool // some gateway has, or asks for, its configuration
	used    time.Time
}

func (p *Publisher) publishRoute(name types.NamespacedName) {
	object := &v1.Route{}
	err := p.opts.Cache.Get(context.Background(), name, object)
	if err != nil && !apierrors.IsNotFound(err) {
		p.opts.Logger.Error("read route", "route", name, "error", err)
		return
	}
	if err != nil {
		object = nil
	}
	p.setRoute(name, object)
}

// setRoute publishes a Route that changed, or forgets one that is gone: nil.
func (p *Publisher) setRoute(name types.NamespacedName, object *v1.Route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.routes[name]
	if object == nil {
		p.forgetRoute(name, entry)
		return
	}
	if entry != nil && entry.source.UID != object.UID {
		p.forgetRoute(name, entry)
		entry = nil
	}
	if entry == nil {
		entry = &routeEntry{}
		p.routes[name] = entry
	}
	entry.source = object
	entry.problem = p.translateRoute(name, entry)
	if entry.problem != nil && !errors.Is(entry.problem, errNoTraffic) {
		p.opts.Logger.Warn("route is not published; what was published before goes on", "route", name, "error", entry.problem)
	}
	p.events.add(name)
}

// translateRoute brings the server up to date with entry.source. On an error nothing changes.
func (p *Publisher) translateRoute(name types.NamespacedName, entry *routeEntry) error {
	p.dependOn(name, entry)
	if len(entry.source.Status.Traffic) == 0 {
		return errNoTraffic
	}
	lookup := func(revision string) *v1.Revision {
		if r := p.revisions[types.NamespacedName{Namespace: name.Namespace, Name: revision}]; r != nil {
			return r.source
		}
		return nil
	}
	route, err := translate.Route(entry.source, lookup, p.opts.Settings.Load())
	if err != nil {
		return err
	}
	return p.serve(name, entry, route)
}

var errNoTraffic = errors.New("its traffic is not assigned yet")

// serve publishes what the Route may have of whole, and what that gives to or takes
// from others that claim its hosts, in one update: a host that changes hands is never without a
// Route and never has two. It costs the Route, and those who claim the same hosts. On
// an error nothing changes.
func (p *Publisher) serve(name types.NamespacedName, entry *routeEntry, whole ir.Route) error {
	c := claim{route: name, created: entry.source.CreationTimestamp.Time, uid: entry.source.UID}
	before, now := domains(entry.whole), domains(whole)
	others := p.hosts.change(c, before, now)
	var u update
	if err := p.encode(&u, name, entry, whole); err != nil {
		p.hosts.change(c, now, before)
		return err
	}
	entry.whole = whole
	p.byRoute[whole.Name] = name
	p.encodeAll(&u, others)
	p.commit(&u)
	return nil
}

// update is what is to be given to the server at once.
type update struct {
	set    []*xds.Resource
	remove []xds.Key
	after  []func()
}

// encode adds what name has to serve of whole. Nothing is noted before commit.
func (p *Publisher) encode(u *update, name types.NamespacedName, entry *routeEntry, whole ir.Route) error {
	share, lost := p.hosts.share(name, whole)
	var resources []*xds.Resource
	if len(share.Hosts) > 0 {
		var err error
		if resources, err = encodeRoute(share); err != nil {
			return err
		}
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

func (p *Publisher) encodeAll(u *update, names []types.NamespacedName) {
	for _, name := range names {
		entry := p.routes[name]
		if err := p.encode(u, name, entry, entry.whole); err != nil {
			p.opts.Logger.Error("route is not published; what was published before goes on", "route", name, "error", err)
		}
		p.events.add(name)
	}
}

func (p *Publisher) commit(u *update) {
	for _, f := range u.after {
		f()
	}
	p.server.Update(u.set, u.remove)
}

// dependOn notes which revisions the Route needs, so that it is translated again when one of them comes or goes.
func (p *Publisher) dependOn(name types.NamespacedName, entry *routeEntry) {
	var now []types.NamespacedName
	for _, t := range entry.source.Status.Traffic {
		revision := types.NamespacedName{Namespace: name.Namespace, Name: t.RevisionName}
		if t.RevisionName != "" && !slices.Contains(now, revision) {
			now = append(now, revision)
		}
	}
	for _, r := range entry.revisions {
		if !slices.Contains(now, r) {
			delete(p.byRevision[r], name)
			if len(p.byRevision[r]) == 0 {
				delete(p.byRevision, r)
			}
		}
	}
	for _, r := range now {
		if p.byRevision[r] == nil {
			p.byRevision[r] = map[types.NamespacedName]bool{}
		}
		p.byRevision[r][name] = true
	}
	entry.revisions = now
}

func (p *Publisher) forgetRoute(name types.NamespacedName, entry *routeEntry) {
	if entry == nil {
		return
	}
	for _, r := range entry.revisions {
		delete(p.byRevision[r], name)
		if len(p.byRevision[r]) == 0 {
			delete(p.byRevision, r)
		}
	}
	delete(p.byRoute, entry.whole.Name)
	delete(p.routes, name)
	u := update{remove: entry.keys}
	p.encodeAll(&u, p.hosts.change(claim{route: name}, domains(entry.whole), nil))
	p.commit(&u)
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

// sameInput tells whether two states of a Route translate to the same thing.
func sameInput(a, b *v1.Route) bool {
	return a.UID == b.UID &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.Status.URL, b.Status.URL) &&
		equality.Semantic.DeepEqual(a.Status.Traffic, b.Status.Traffic)
}
