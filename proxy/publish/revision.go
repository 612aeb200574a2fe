package publish

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/shares"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
)

// revisionEntry is what was last published of a Revision: a cluster, its endpoints and
// what activators have to know, all under one name.
type revisionEntry struct {
	source  *v1.Revision
	cluster string
	tracked bool

	places     int      // activators that it is to have
	activators []string // that it has, sorted
}

func (e *revisionEntry) keys() []xds.Key {
	return []xds.Key{
		{Type: xds.ClusterType, Name: e.cluster},
		{Type: xds.EndpointType, Name: e.cluster},
		{Type: link.RevisionType, Name: e.cluster},
	}
}

func (p *Publisher) publishRevision(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.translateRevision(name); err != nil {
		p.opts.Logger.Error("revision is not published; its last good configuration goes on", "revision", name, "error", err)
	}
}

// translateRevision reads the Revision and its pods from the cache, so that whatever the
// cache holds when it is called is published when it returns.
func (p *Publisher) translateRevision(name types.NamespacedName) error {
	object := &v1.Revision{}
	err := p.read(name, object)
	gone := apierrors.IsNotFound(err)
	if err != nil && !gone {
		return err
	}
	if gone {
		return p.setRevision(name, nil, nil)
	}
	if object, err = p.scaled(object); err != nil {
		return err
	}
	pods, err := p.pods(name)
	if err != nil {
		return err
	}
	return p.setRevision(name, object, pods)
}

// setRevision publishes a Revision with its pods, or forgets one that is gone: nil.
func (p *Publisher) setRevision(name types.NamespacedName, object *v1.Revision, pods []*corev1.Pod) error {
	entry := p.revisions[name]
	if entry != nil && (object == nil || entry.source.UID != object.UID) {
		p.forgetRevision(name, entry)
		entry = nil
	}
	if object == nil {
		return nil
	}
	cluster := translate.Revision(object)
	current := p.opts.Settings.Load()
	places := translate.Places(object, pods, current)
	subset := translate.Subset(object, places, p.activators)
	endpoints := translate.Endpoints(object, pods, subset, p.isDraining(name), current)
	assignment := translate.Assignment(object, pods, subset, p.isDraining(name), current)
	var moves []shares.Move
	if limit := translate.Limit(object); limit > 0 {
		moves = p.divide(name, assignment, limit)
	}
	resources, err := encodeRevision(cluster, endpoints, assignment)
	if err == nil {
		p.server.Update(resources, nil)
	}
	p.release(cluster.Name, moves)
	if err != nil {
		return err
	}

	first := entry == nil
	if first {
		entry = &revisionEntry{cluster: cluster.Name}
		p.revisions[name] = entry
		p.byCluster[cluster.Name] = name
	}
	entry.source, entry.places = object, places
	p.assigned(name, entry, assignment.GetActivators())
	if on := len(endpoints.Priorities[0]) > 0; on != entry.tracked {
		entry.tracked = on
		p.opts.Track(cluster.Name, on)
	}
	if first {
		for route := range p.byRevision[name] {
			p.queue.Add(key{kind: routeKey, name: route})
		}
	}
	return nil
}

func (p *Publisher) forgetRevision(name types.NamespacedName, entry *revisionEntry) {
	delete(p.revisions, name)
	delete(p.byCluster, entry.cluster)
	delete(p.draining, name)
	if entry.tracked {
		p.opts.Track(entry.cluster, false)
	}
	p.assigned(name, entry, nil)
	p.forgetShares(entry.cluster)
	p.server.Update(nil, entry.keys())
	for route := range p.byRevision[name] {
		p.queue.Add(key{kind: routeKey, name: route})
	}
}

// pods of the revision, as the cache holds them: they are not to be changed.
func (p *Publisher) pods(name types.NamespacedName) ([]*corev1.Pod, error) {
	var list corev1.PodList
	err := p.opts.Cache.List(context.Background(), &list, client.InNamespace(name.Namespace),
		client.MatchingFields{podsByRevision: name.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods, nil
}

func (p *Publisher) isDraining(name types.NamespacedName) func(pod string) bool {
	draining := p.draining[name]
	return func(pod string) bool { return draining[pod] }
}

func encodeRevision(cluster ir.Cluster, endpoints ir.Endpoints, assignment *link.Revision) ([]*xds.Resource, error) {
	cds, err := envoy.Cluster(cluster)
	if err != nil {
		return nil, err
	}
	eds, err := envoy.ClusterLoadAssignment(endpoints)
	if err != nil {
		return nil, err
	}
	owner := xds.WithOwner(string(cluster.Owner))
	e, err := xds.NewResource(cluster.Name, eds, owner, xds.AsLazy())
	if err != nil {
		return nil, err
	}
	c, err := xds.NewResource(cluster.Name, cds, owner, xds.AsLazy(), xds.WithNeeds(e.Key))
	if err != nil {
		return nil, err
	}
	a, err := xds.NewResource(cluster.Name, assignment, owner, xds.AsLazy())
	if err != nil {
		return nil, err
	}
	return []*xds.Resource{c, e, a}, nil
}
