package envoy

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"ebb.dev/ebb/proxy/ir"
)

// overprovisioning times 1 % of healthy endpoints keeps all traffic in their
// priority: one pod in ten takes everything before the activators get any.
const overprovisioning = 1000

// Region is the locality's region of every endpoint. A load report is made per
// locality; the sub-zone is SubZone(priority), so that pods and activators are told apart in it.
const Region = "ebb"

// SubZone is the locality's sub-zone of the endpoints of one priority: "p0" or "p1".
func SubZone(priority int) string { return fmt.Sprintf("p%d", priority) }

// ClusterLoadAssignment encodes a cluster's endpoints, one locality for each
// priority that has any. Without pods all goes to the activators; an assignment without
// any endpoint answers 503 at once.
func ClusterLoadAssignment(e ir.Endpoints) (*endpointv3.ClusterLoadAssignment, error) {
	assignment := &endpointv3.ClusterLoadAssignment{
		ClusterName: e.Cluster,
		Policy:      &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: count(overprovisioning)},
	}
	for priority, endpoints := range e.Priorities {
		if len(endpoints) == 0 {
			continue
		}
		locality := &endpointv3.LocalityLbEndpoints{
			Locality:    &corev3.Locality{Region: Region, SubZone: SubZone(priority)},
			Priority:    uint32(priority),
			LbEndpoints: make([]*endpointv3.LbEndpoint, 0, len(endpoints)),
		}
		for _, endpoint := range endpoints {
			at, err := endpointAddress(endpoint)
			if err != nil {
				return nil, fmt.Errorf("%s: endpoint %s: %w", who(e.Owner, e.Cluster), endpoint.Name, err)
			}
			encoded := &endpointv3.LbEndpoint{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
			}
			if endpoint.Health == ir.Draining {
				encoded.HealthStatus = corev3.HealthStatus_DRAINING
			}
			locality.LbEndpoints = append(locality.LbEndpoints, encoded)
		}
		assignment.Endpoints = append(assignment.Endpoints, locality)
	}
	return check(who(e.Owner, e.Cluster), assignment)
}

func endpointAddress(e ir.Endpoint) (*corev3.Address, error) {
	if e.Hold != "" {
		return holdAddress(e), nil
	}
	if !e.Address.IsValid() || e.Address.Port() == 0 {
		return nil, fmt.Errorf("address %v: an IP address and a port are needed", e.Address)
	}
	return address(e.Address), nil
}
