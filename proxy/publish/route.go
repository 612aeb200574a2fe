package publish

import (
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/translate"
)

// routeEntry is what was last published of a Route.
type routeEntry struct {
	served
	source    *v1.Route // the object that was translated last, for better or worse
	problem   error     // why source could not be translated; what was published before goes on
	revisions []types.NamespacedName
}

func (p *Publisher) publishRoute(name types.NamespacedName) {
	object := &v1.Route{}
	err := p.read(name, object)
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
		entry = &routeEntry{served: served{owner: translate.RouteOwner(name.Namespace, name.Name), created: object.CreationTimestamp.Time, uid: object.UID}}
		p.routes[name] = entry
		p.served[entry.owner] = &entry.served
	}
	entry.source = object
	entry.problem = p.translateRoute(name, entry)
	if entry.problem != nil && !errors.Is(entry.problem, errNoTraffic) {
		p.opts.Logger.Warn("route is not published; what was published before goes on", "route", name, "error", entry.problem)
	}
	p.changed(entry.owner)
	p.queueMappings(name)
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
	p.useSecrets(&entry.served, name.Namespace, translate.RouteSecrets(entry.source))
	route, err := translate.Route(entry.source, lookup, p.secured(&entry.served), p.opts.Settings.Load())
	if err != nil {
		return err
	}
	return p.serve(&entry.served, route)
}

var errNoTraffic = errors.New("its traffic is not assigned yet")

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
	delete(p.routes, name)
	p.forget(&entry.served)
	p.queueMappings(name)
}

// sameInput tells whether two states of a Route translate to the same thing.
func sameInput(a, b *v1.Route) bool {
	return a.UID == b.UID &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.Status.URL, b.Status.URL) &&
		a.Status.Annotations[serving.CertificatesAnnotation] == b.Status.Annotations[serving.CertificatesAnnotation] &&
		equality.Semantic.DeepEqual(a.Status.Traffic, b.Status.Traffic)
}
