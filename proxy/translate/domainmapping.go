package translate

import (
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
)

// ErrNotClaimed means that a DomainMapping may not have its host, or not yet: its status says why.
var ErrNotClaimed = errors.New("its host is not claimed")

// ErrNoTarget means that there is nothing that a DomainMapping could lead to, or not yet.
var ErrNoTarget = errors.New("its target has no traffic")

// DomainMapping translates a DomainMapping: its host gets the rules of the main host of
// target, the Route that it leads to as [Route] made it. The Host header stays what the client sent. It returns ErrNotClaimed
// or ErrNoTarget where nothing is to be served.
func DomainMapping(m *v1beta1.DomainMapping, target *ir.Route, secure func(host string) bool, s *settings.Settings) (ir.Route, error) {
	if !m.Status.Conditions.Get(v1beta1.DomainClaimed).IsTrue() || m.DeletionTimestamp != nil {
		return ir.Route{}, ErrNotClaimed
	}
	if !m.Status.Conditions.Get(v1beta1.ReferenceResolved).IsTrue() || target == nil {
		return ir.Route{}, ErrNoTarget
	}
	domains := []ir.Domain{{Host: m.Name, Audience: ir.External}}
	rules := redirect(domains, s.Redirects(m.Annotations), secure, s)
	traffic := len(rules)
	for _, host := range target.Hosts {
		if host.Name != mainHost {
			continue
		}
		for _, rule := range host.Rules {
			if rule.Redirect == nil { // to https or not is the mapping's own affair
				rules = append(rules, rule)
			}
		}
	}
	if len(rules) == traffic {
		return ir.Route{}, ErrNoTarget
	}
	return ir.Route{
		Name:  fmt.Sprintf("mapping/%s/%s/%s", m.Namespace, m.Name, m.UID),
		Owner: DomainMappingOwner(m.Namespace, m.Name),
		Hosts: []ir.VirtualHost{{Name: mainHost, Domains: domains, Rules: rules}},
	}, nil
}

// DomainMappingTarget is the Route that a DomainMapping leads to: a Service's Route has its name.
func DomainMappingTarget(m *v1beta1.DomainMapping) types.NamespacedName {
	return types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.Ref.Name}
}

// DomainMappingSecrets says in which Secret of its namespace the certificate of the host is.
func DomainMappingSecrets(m *v1beta1.DomainMapping) map[string]string {
	if m.Spec.TLS != nil {
		return map[string]string{m.Name: m.Spec.TLS.SecretName}
	}
	return secretsNoted(m.Status.Annotations)
}

// RouteSecrets says in which Secret of its namespace the certificate of each host of a Route is.
func RouteSecrets(r *v1.Route) map[string]string { return secretsNoted(r.Status.Annotations) }

func secretsNoted(annotations map[string]string) map[string]string {
	var secrets map[string]string
	if json.Unmarshal([]byte(annotations[serving.CertificatesAnnotation]), &secrets) != nil {
		return nil // nothing is noted, or nothing that a controller wrote
	}
	return secrets
}
