package publish

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/proxy/ir"
)

// claim is one Route's wish to serve a host.
type claim struct {
	route   types.NamespacedName
	created time.Time
	uid     types.UID
}

// hosts are all claims by host, the oldest Route's first: that one serves it, and the others
// do not. Two scopes with one key would be rejected by every gateway, and the older Route's
// users would find the newer one's service behind their host.
type hosts map[ir.Domain][]claim

func (h hosts) holder(d ir.Domain) types.NamespacedName { return h[d][0].route }

// change makes now what c.route claims instead of before. It returns whose share changed
// with it: those who got or lost a host in which c.route is, or was, a rival.
func (h hosts) change(c claim, before, now []ir.Domain) (others []types.NamespacedName) {
	changed := func(d ir.Domain) {
		for _, rival := range h[d] {
			if rival.route != c.route && !slices.Contains(others, rival.route) {
				others = append(others, rival.route)
			}
		}
	}
	for _, d := range before {
		if slices.Contains(now, d) {
			continue
		}
		claims := h[d]
		i := slices.IndexFunc(claims, func(o claim) bool { return o.route == c.route })
		if i < 0 {
			continue
		}
		// A copy, because what is held by others must not move under them.
		if claims = slices.Concat(claims[:i], claims[i+1:]); len(claims) == 0 {
			delete(h, d)
			continue
		}
		h[d] = claims
		if i == 0 {
			changed(d)
		}
	}
	for _, d := range now {
		claims := h[d]
		if slices.ContainsFunc(claims, func(o claim) bool { return o.route == c.route }) {
			continue
		}
		i, _ := slices.BinarySearchFunc(claims, c, older)
		h[d] = slices.Insert(claims, i, c)
		if i == 0 {
			changed(d)
		}
	}
	return others
}

func older(a, b claim) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.uid, b.uid))
}

// share is the part of a Route that it serves: without the hosts of older Routes.
func (h hosts) share(name types.NamespacedName, whole ir.Route) (share ir.Route, lost []ir.Domain) {
	share = whole
	share.Hosts = make([]ir.VirtualHost, 0, len(whole.Hosts))
	taken := make(map[ir.Domain]bool, len(whole.Hosts)*4)
	for _, host := range whole.Hosts {
		domains := make([]ir.Domain, 0, len(host.Domains))
		for _, d := range host.Domains {
			switch {
			case h.holder(d) != name:
				lost = append(lost, d)
			case !taken[d]: // two tags of one Route can have one host
				taken[d] = true
				domains = append(domains, d)
			}
		}
		if len(domains) > 0 {
			host.Domains = domains
			share.Hosts = append(share.Hosts, host)
		}
	}
	return share, lost
}

// explain says, for the Route that did not get them, who serves its hosts.
func (h hosts) explain(lost []ir.Domain) []string {
	texts := make([]string, 0, len(lost))
	for _, d := range lost {
		where := ""
		if d.Audience == ir.Internal {
			where = " inside the cluster"
		}
		texts = append(texts, fmt.Sprintf("host %s%s is served by route %s, which is older: rename this one or change its domain", d.Host, where, h.holder(d)))
	}
	return texts
}

func domains(r ir.Route) []ir.Domain {
	var all []ir.Domain
	for _, host := range r.Hosts {
		for _, d := range host.Domains {
			if !slices.Contains(all, d) {
				all = append(all, d)
			}
		}
	}
	return all
}
