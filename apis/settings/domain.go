package settings

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/serving"
)

// ClusterLocalDomain is the domain that makes a Route private to the cluster.
const ClusterLocalDomain = "svc.cluster.local"

// Domain is config-domain: which Routes get which domain.
type Domain struct {
	// choices, the most specific first; the last one matches everything.
	choices []domainChoice
}

type domainChoice struct {
	domain   string
	selector map[string]string
}

// domainEntry is the YAML under a domain.
type domainEntry struct {
	Selector map[string]string `json:"selector,omitempty"`
	// Type is written by Knative for wildcard certificates; Ebb makes no use of it.
	Type string `json:"type,omitempty"`
}

// maxDomains bounds the domains, each of which is compared with each Route.
const maxDomains = 1000

func parseDomain(p *parser) Domain {
	var d Domain
	if len(p.data) > maxDomains {
		p.bad("…", "has %d domains; the most is %d", len(p.data), maxDomains)
		p.data = nil
	}
	hasDefault := false
	for _, name := range slices.Sorted(maps.Keys(p.data)) {
		if name == "_example" {
			continue
		}
		p.accept(name)
		if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
			p.bad(name, "not a domain: %s", wrong[0])
			continue
		}
		var entry domainEntry
		if err := yaml.UnmarshalStrict([]byte(p.data[name]), &entry); err != nil {
			p.bad(name, "must be empty or \"selector:\" with labels: %v", err)
			continue
		}
		if _, err := labels.ValidatedSelectorFromSet(entry.Selector); err != nil {
			p.bad(name, "selector: %v", err)
			continue
		}
		hasDefault = hasDefault || len(entry.Selector) == 0
		d.choices = append(d.choices, domainChoice{name, entry.Selector})
	}
	if !hasDefault {
		d.choices = append(d.choices, domainChoice{domain: ClusterLocalDomain})
	}
	// More labels are more specific; of equal ones the first by name wins.
	slices.SortStableFunc(d.choices, func(a, b domainChoice) int { return len(b.selector) - len(a.selector) })
	return d
}

// For returns the domain of a Route with these labels: ClusterLocalDomain where its
// visibility says so or no domain is set, else that of the most specific selector that
// matches; equally specific ones go by name.
func (d *Domain) For(routeLabels map[string]string) string {
	if strings.EqualFold(routeLabels[serving.VisibilityLabel], serving.VisibilityClusterLocal) {
		return ClusterLocalDomain
	}
	for _, c := range d.choices {
		if matches(c.selector, routeLabels) {
			return c.domain
		}
	}
	return ClusterLocalDomain
}

func matches(selector, have map[string]string) bool {
	for k, want := range selector {
		if v, ok := have[k]; !ok || v != want {
			return false
		}
	}
	return true
}
