package publish

import (
	"fmt"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/xds"
)

// holdOf names the gateways' way to the activator in a slot.
func holdOf(slot int) string { return fmt.Sprintf("activator-%d", slot) }

// holds are the ways to the activators, one a slot: it leads to the activator that is in the
// slot, and to the others when that is gone or leaves. A way stays when its slot is empty: requests
// that came by it may still be with another activator.
func holds(slots int, activators []members.Member) []ir.Hold {
	if len(activators) == 0 {
		return nil
	}
	out := make([]ir.Hold, 0, slots)
	for slot := range slots {
		h := ir.Hold{Name: holdOf(slot)}
		for _, a := range activators {
			if a.Slot == slot {
				health := ir.Healthy
				if a.Leaving {
					health = ir.Draining
				}
				h.Activators = append(h.Activators, ir.Endpoint{Name: a.Name, Address: a.Address, Health: health})
			}
		}
		for _, a := range activators {
			if a.Slot != slot && !a.Leaving {
				h.Activators = append(h.Activators, ir.Endpoint{Name: a.Name, Address: a.Address})
			}
		}
		if len(h.Activators) > 0 {
			out = append(out, h)
		}
	}
	return out
}

// publishHolds gives every gateway the ways to the activators, and returns the keys of what they are.
func (p *Publisher) publishHolds(slots int, activators []members.Member) []xds.Key {
	var set []*xds.Resource
	var keys []xds.Key
	for _, h := range holds(slots, activators) {
		if t := p.opts.Trust; t != nil {
			h.Identity = t.Activators
		}
		resources, err := encodeHold(h)
		if err != nil {
			p.opts.Logger.Error("an activator is not published", "activator", h.Name, "error", err)
			continue
		}
		set = append(set, resources...)
	}
	for _, r := range set {
		keys = append(keys, r.Key)
	}
	p.server.Update(set, nil)
	return keys
}

func encodeHold(h ir.Hold) ([]*xds.Resource, error) {
	made, err := envoy.Hold(h)
	if err != nil {
		return nil, err
	}
	endpoints, err := xds.NewResource(made.Endpoints.GetClusterName(), made.Endpoints)
	if err != nil {
		return nil, err
	}
	cluster, err := xds.NewResource(made.Cluster.GetName(), made.Cluster, xds.WithNeeds(endpoints.Key))
	if err != nil {
		return nil, err
	}
	listener, err := xds.NewResource(made.Listener.GetName(), made.Listener, xds.WithNeeds(cluster.Key))
	if err != nil {
		return nil, err
	}
	return []*xds.Resource{endpoints, cluster, listener}, nil
}
