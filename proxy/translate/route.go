package translate

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
)

// clusterSuffix ends the full in-cluster name of a Service.
const clusterSuffix = ".svc.cluster.local"

// Route translates the traffic in the Route's status, which is what is to be
// served: the spec may ask for something that cannot be. lookup gives a Revision of the
// Route's namespace, or nil. secure says which external hosts have a certificate.
//
// It returns a [*MissingRevisionError] when traffic goes to a Revision that lookup
// does not know, and another error when the status makes no sense.
func Route(rt *v1.Route, lookup func(name string) *v1.Revision, secure func(host string) bool, s *settings.Settings) (ir.Route, error) {
	t := routeTranslation{route: rt, lookup: lookup, settings: s}
	redirects := s.Redirects(rt.Annotations)
	fail := func(err error) (ir.Route, error) { return ir.Route{}, err }

	rule, err := t.mainRule()
	if err != nil {
		return fail(err)
	}
	domains, err := t.domains(rt.Name, rt.Status.URL)
	if err != nil {
		return fail(err)
	}
	byHeader := s.Features.TagHeaderRouting()
	var byTag []ir.Rule // of the main host, by header
	main := ir.VirtualHost{Name: mainHost, Domains: domains}
	var hosts []ir.VirtualHost
	tags := map[string]bool{}
	for i := range rt.Status.Traffic {
		target := &rt.Status.Traffic[i]
		if target.Tag == "" || tags[target.Tag] {
			continue
		}
		tags[target.Tag] = true
		backends, err := t.tagBackends(target.Tag)
		if err != nil {
			return fail(err)
		}
		domains, err := t.domains(target.Tag+"-"+rt.Name, target.URL)
		if err != nil {
			return fail(err)
		}
		tag := ir.Rule{Backends: backends}
		if byHeader {
			byTag = append(byTag, ir.Rule{Match: ir.Match{Headers: map[string]string{serving.TagHeader: target.Tag}}, Backends: tag.Backends})
			// The pod sees the same whether the host or the header picked the tag.
			tag.Headers = map[string]string{serving.TagHeader: target.Tag}
		}
		hosts = append(hosts, ir.VirtualHost{
			Name:    "tag/" + target.Tag,
			Domains: domains,
			Rules:   append(redirect(domains, redirects, secure, s), tag),
		})
	}
	if byHeader {
		rule.Headers = map[string]string{serving.DefaultRouteHeader: "true"}
	}
	main.Rules = append(append(redirect(main.Domains, redirects, secure, s), byTag...), rule)
	hosts = append(hosts, main)
	slices.SortFunc(hosts, func(a, b ir.VirtualHost) int { return cmp.Compare(a.Name, b.Name) })
	return ir.Route{
		Name:  RouteName(rt.Namespace, rt.Name, string(rt.UID)),
		Owner: RouteOwner(rt.Namespace, rt.Name),
		Hosts: hosts,
	}, nil
}

// mainHost is the name of the virtual host that has the whole traffic of a Route.
const mainHost = "main"

// redirect is the rule that sends http requests from outside to https, if that is wanted
// and all external hosts have a certificate.
func redirect(domains []ir.Domain, wanted bool, secure func(host string) bool, s *settings.Settings) []ir.Rule {
	if !wanted {
		return nil
	}
	external := false
	for _, d := range domains {
		if d.Audience == ir.External {
			if external = true; !secure(d.Host) {
				return nil
			}
		}
	}
	if !external {
		return nil
	}
	return []ir.Rule{{
		Match:    ir.Match{Scheme: "http", Audience: ir.External},
		Redirect: &ir.Redirect{HTTPS: true, Port: uint32(s.Network.ExternalHTTPSPort), Status: 301},
	}}
}

// RouteName is the name of a Route's configuration: route/<namespace>/<name>/<uid>.
func RouteName(namespace, name, uid string) string {
	return "route/" + namespace + "/" + name + "/" + uid
}

type routeTranslation struct {
	route    *v1.Route
	lookup   func(name string) *v1.Revision
	settings *settings.Settings
}

func (t *routeTranslation) name() string { return t.route.Namespace + "/" + t.route.Name }

// mainRule splits by percent. Targets of the same Revision are one backend, in the
// place of the first of them.
func (t *routeTranslation) mainRule() (ir.Rule, error) {
	var rule ir.Rule
	place := map[string]int{}
	total := int64(0)
	for i := range t.route.Status.Traffic {
		target := &t.route.Status.Traffic[i]
		if target.Percent == nil || *target.Percent == 0 {
			continue
		}
		percent := *target.Percent
		if percent < 0 || percent > 100 {
			return rule, fmt.Errorf("route %s: status.traffic[%d].percent is %d: 0..100 is possible", t.name(), i, percent)
		}
		total += percent
		if at, ok := place[target.RevisionName]; ok {
			rule.Backends[at].Weight += uint32(percent)
			continue
		}
		backend, err := t.backend(target.RevisionName, uint32(percent))
		if err != nil {
			return rule, err
		}
		place[target.RevisionName] = len(rule.Backends)
		rule.Backends = append(rule.Backends, backend)
	}
	if total != 100 {
		return rule, fmt.Errorf("route %s: the percents of status.traffic sum to %d, not to 100", t.name(), total)
	}
	return rule, nil
}

// tagBackends are where the host of a tag leads: one Revision, or, during a rollout of the
// tag's target, its Revisions in the proportion of their percents.
func (t *routeTranslation) tagBackends(tag string) ([]ir.Backend, error) {
	var backends []ir.Backend
	total := uint32(0)
	for i := range t.route.Status.Traffic {
		target := &t.route.Status.Traffic[i]
		if target.Tag != tag {
			continue
		}
		weight := uint32(0)
		if target.Percent != nil && *target.Percent > 0 {
			weight = uint32(min(*target.Percent, 100))
		}
		total += weight
		backend, err := t.backend(target.RevisionName, weight)
		if err != nil {
			return nil, err
		}
		backends = append(backends, backend)
	}
	// Whole percents of this host; what is left over goes to the first, the oldest Revision.
	left := uint32(100)
	for i := range backends {
		if total > 0 {
			backends[i].Weight = backends[i].Weight * 100 / total
		}
		left -= backends[i].Weight
	}
	backends[0].Weight += left
	return backends, nil
}

func (t *routeTranslation) backend(revision string, weight uint32) (ir.Backend, error) {
	rev := t.lookup(revision)
	if rev == nil {
		return ir.Backend{}, &MissingRevisionError{Route: t.name(), Revision: revision}
	}
	backend := ir.Backend{
		Cluster:  clusterOf(rev),
		Weight:   weight,
		Timeouts: timeouts(rev, t.settings),
	}
	if t.route.Annotations[serving.RetryAnnotation] == serving.RetryIdempotent {
		backend.Retry = ir.RetryIdempotent
	}
	return backend, nil
}

// domains are where one virtual host is reached: name in the cluster in its three forms,
// and the host of the URL outside, unless that is an in-cluster one or the Route is
// cluster-local.
func (t *routeTranslation) domains(name, external string) ([]ir.Domain, error) {
	inside := strings.ToLower(name + "." + t.route.Namespace)
	domains := []ir.Domain{
		{Host: inside, Audience: ir.Internal},
		{Host: inside + ".svc", Audience: ir.Internal},
		{Host: inside + clusterSuffix, Audience: ir.Internal},
	}
	if external == "" || t.route.Labels[serving.VisibilityLabel] == serving.VisibilityClusterLocal {
		return domains, nil
	}
	parsed, err := url.Parse(external)
	if err != nil || parsed.Hostname() == "" {
		return nil, fmt.Errorf("route %s: %q in the status is not a URL with a host", t.name(), external)
	}
	host := strings.ToLower(parsed.Hostname())
	if strings.HasSuffix(host, clusterSuffix) {
		return domains, nil
	}
	return append(domains, ir.Domain{Host: host, Audience: ir.External}), nil
}

// timeouts are the Revision's, or the defaults for what admission has not filled in.
func timeouts(rev *v1.Revision, s *settings.Settings) ir.Timeouts {
	seconds := func(own *int64, fallback int64) time.Duration {
		if own != nil {
			return time.Duration(*own) * time.Second
		}
		return time.Duration(fallback) * time.Second
	}
	request := seconds(rev.Spec.TimeoutSeconds, defaultTimeoutSeconds(s))
	return ir.Timeouts{
		Request:       request,
		ResponseStart: min(request, seconds(rev.Spec.ResponseStartTimeoutSeconds, int64(request/time.Second))),
		Idle:          seconds(rev.Spec.IdleTimeoutSeconds, 0),
	}
}
