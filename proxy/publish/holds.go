package publish

import (
	"fmt"
	"slices"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/xds"
)

// behindHolds gives each activator a hold of its own name, by way of which gateways
// reach it.
func behindHolds(activators []ir.Endpoint) []ir.Endpoint {
	behind := slices.Clone(activators)
	for i := range behind {
		behind[i].Hold = behind[i].Name
	}
	return behind
}

// holds are the ways to the activators: the one of each name leads to that activator,
// and to the others when it is gone.
func holds(activators []ir.Endpoint) []ir.Hold {
	out := make([]ir.Hold, len(activators))
	for i, first := range activators {
		order := make([]ir.Endpoint, 0, len(activators))
		for _, a := range slices.Concat([]ir.Endpoint{first}, activators[:i], activators[i+1:]) {
			a.Hold = ""
			order = append(order, a)
		}
		out[i] = ir.Hold{Name: first.Name, Activators: order}
	}
	return out
}

// publishHolds gives every gateway the ways to the activators.
func (p *Publisher) publishHolds() error {
	var set []*xds.Resource
	for _, h := range holds(p.opts.Activators) {
		resources, err := encodeHold(h)
		if err != nil {
			return fmt.Errorf("activator %s: %w", h.Name, err)
		}
		set = append(set, resources...)
	}
	p.server.Update(set, nil)
	return nil
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
