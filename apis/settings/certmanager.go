package settings

import (
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// CertManager is config-certmanager.
type CertManager struct {
	// Issuer of the certificates of external hosts.
	Issuer IssuerRef
}

// IssuerRef names an issuer of cert-manager.
type IssuerRef struct {
	Name  string `json:"name"`
	Kind  string `json:"kind,omitempty"`
	Group string `json:"group,omitempty"`
}

func parseCertManager(p *parser) CertManager {
	c := CertManager{Issuer: IssuerRef{Kind: "ClusterIssuer", Name: "knative-selfsigned-issuer"}}
	if v, ok := p.lookup("issuerRef"); ok && v != "" {
		if err := yaml.UnmarshalStrict([]byte(v), &c.Issuer); err != nil {
			p.bad("issuerRef", "not a reference with name, kind and group: %v", err)
		} else if wrong := validation.IsDNS1123Subdomain(c.Issuer.Name); len(wrong) > 0 {
			p.bad("issuerRef", "name %q: %s", c.Issuer.Name, wrong[0])
		} else if c.Issuer.Kind == "" {
			p.bad("issuerRef", "kind is empty: Issuer or ClusterIssuer")
		}
	}
	p.accept("clusterLocalIssuerRef", "systemInternalIssuerRef")
	return c
}
