package settings

import (
	"regexp"
	"strings"
)

// ClusterDomain is the domain of all names inside the cluster.
const ClusterDomain = "cluster.local"

// Stand-ins for the parts of a Route's host: labels that nobody uses.
const (
	anyName      = "ebb-any-name-0"
	anyNamespace = "ebb-any-namespace-0"
)

// RouteHost says whether a host has the form of those that domain-template gives to
// Routes without labels and annotations, and of which namespace; "" where the template does not say.
func (s *Settings) RouteHost(host string) (namespace string, is bool) {
	for _, choice := range s.Domain.choices {
		if choice.domain == ClusterLocalDomain {
			continue
		}
		form, err := s.Network.host(RouteName{Name: anyName, Namespace: anyNamespace}, choice.domain)
		if err != nil || !strings.Contains(form, anyName) {
			continue
		}
		const label = "[a-z0-9-]+"
		pattern := regexp.QuoteMeta(form)
		pattern = strings.Replace(pattern, regexp.QuoteMeta(anyNamespace), "(?P<namespace>"+label+")", 1)
		pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta(anyNamespace), label)
		pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta(anyName), label)
		match, err := regexp.Compile("^" + pattern + "$")
		if err != nil {
			continue
		}
		if parts := match.FindStringSubmatch(host); parts != nil {
			if i := match.SubexpIndex("namespace"); i >= 0 {
				namespace = parts[i]
			}
			return namespace, true
		}
	}
	return "", false
}
