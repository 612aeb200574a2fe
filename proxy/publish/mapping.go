package publish

import (
	"errors"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
)

// mappingEntry is what was last published of a DomainMapping.
type mappingEntry struct {
	served
	source  *v1beta1.DomainMapping // the object that was translated last, for better or worse
	problem error                  // why there is nothing to publish of it, or nothing new
	target  types.NamespacedName   // the Route that it leads to
}

func (p *Publisher) publishMapping(name types.NamespacedName) {
	object := &v1beta1.DomainMapping{}
	err := p.read(name, object)
	if err != nil && !apierrors.IsNotFound(err) {
		p.opts.Logger.Error("read DomainMapping", "mapping", name, "error", err)
		return
	}
	if err != nil {
		object = nil
	}
	p.setMapping(name, object)
}

// setMapping publishes a DomainMapping that changed, or whose target did, or forgets one that is gone: nil.
func (p *Publisher) setMapping(name types.NamespacedName, object *v1beta1.DomainMapping) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.mappings[name]
	if entry != nil && (object == nil || entry.uid != object.UID) {
		p.leadTo(name, entry, types.NamespacedName{})
		delete(p.mappings, name)
		p.forget(&entry.served)
		entry = nil
	}
	if object == nil {
		return
	}
	if entry == nil {
		entry = &mappingEntry{served: served{
			owner: translate.DomainMappingOwner(name.Namespace, name.Name), created: object.CreationTimestamp.Time, uid: object.UID,
		}}
		p.mappings[name] = entry
		p.served[entry.owner] = &entry.served
	}
	entry.source = object
	entry.problem = p.translateMapping(name, entry)
	switch {
	case errors.Is(entry.problem, translate.ErrNotClaimed), errors.Is(entry.problem, translate.ErrNoTarget):
		p.withdraw(&entry.served)
	case entry.problem != nil:
		p.opts.Logger.Warn("DomainMapping is not published; what was published before goes on", "mapping", name, "error", entry.problem)
	}
	p.changed(entry.owner)
}

func (p *Publisher) translateMapping(name types.NamespacedName, entry *mappingEntry) error {
	p.leadTo(name, entry, translate.DomainMappingTarget(entry.source))
	p.useSecrets(&entry.served, name.Namespace, translate.DomainMappingSecrets(entry.source))
	var target *ir.Route
	if route := p.routes[entry.target]; route != nil && len(route.whole.Hosts) > 0 {
		target = &route.whole
	}
	route, err := translate.DomainMapping(entry.source, target, p.secured(&entry.served), p.opts.Settings.Load())
	if err != nil {
		return err
	}
	return p.serve(&entry.served, route)
}

// leadTo notes to which Route the DomainMapping leads.
func (p *Publisher) leadTo(name types.NamespacedName, entry *mappingEntry, target types.NamespacedName) {
	if entry.target == target {
		return
	}
	delete(p.byTarget[entry.target], name)
	if len(p.byTarget[entry.target]) == 0 {
		delete(p.byTarget, entry.target)
	}
	if entry.target = target; target.Name == "" {
		return
	}
	if p.byTarget[target] == nil {
		p.byTarget[target] = map[types.NamespacedName]bool{}
	}
	p.byTarget[target][name] = true
}

// queueMappings has those translated again that lead to a Route.
func (p *Publisher) queueMappings(route types.NamespacedName) {
	for mapping := range p.byTarget[route] {
		p.queue.Add(key{kind: mappingKey, name: mapping})
	}
}

// MappingState is [Publisher.RouteState] of a DomainMapping.
func (p *Publisher) MappingState(namespace, name string) (connected, pending int, rejected []string) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	current := &v1beta1.DomainMapping{}
	if err := p.read(key, current); err != nil {
		return 1, 1, nil
	}
	p.mu.Lock()
	entry := p.mappings[key]
	if entry == nil || !sameMapping(entry.source, current) {
		p.mu.Unlock()
		return 1, 1, nil
	}
	q := question{entry: &entry.served, problem: entry.problem,
		wasReady: current.Status.Conditions.Get(v1beta1.IngressReady).IsTrue(),
		still:    func() bool { return p.mappings[key] == entry && sameMapping(entry.source, current) }}
	if route := p.routes[entry.target]; route != nil {
		q.revisions = route.revisions
	}
	return p.answer(q)
}

// sameMapping tells whether two states of a DomainMapping translate to the same thing.
func sameMapping(a, b *v1beta1.DomainMapping) bool {
	is := func(m *v1beta1.DomainMapping, condition string) bool {
		return m.Status.Conditions.Get(condition).IsTrue()
	}
	return a.UID == b.UID && equality.Semantic.DeepEqual(a.Spec, b.Spec) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		a.Status.Annotations[serving.CertificatesAnnotation] == b.Status.Annotations[serving.CertificatesAnnotation] &&
		is(a, v1beta1.DomainClaimed) == is(b, v1beta1.DomainClaimed) &&
		is(a, v1beta1.ReferenceResolved) == is(b, v1beta1.ReferenceResolved)
}
