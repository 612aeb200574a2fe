package publish

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
)

// claim is one object's wish to serve a host.
type claim struct {
	owner   ir.Owner
	created time.Time
	uid     types.UID
}

// hosts are all claims by host, the oldest object's first: that one serves it, and the others
// do not. Two scopes with one key would be rejected by every gateway, and the older one's
// users would find the newer one's service behind their host.
type hosts map[ir.Domain][]claim

func (h hosts) holder(d ir.Domain) ir.Owner { return h[d][0].owner }

// change makes now what c.owner claims instead of before. It returns whose share changed
// with it: those who got or lost a host in which c.owner is, or was, a rival.
func (h hosts) change(c claim, before, now []ir.Domain) (others []ir.Owner) {
	changed := func(d ir.Domain) {
		for _, rival := range h[d] {
			if rival.owner != c.owner && !slices.Contains(others, rival.owner) {
				others = append(others, rival.owner)
			}
		}
	}
	for _, d := range before {
		if slices.Contains(now, d) {
			continue
		}
		claims := h[d]
		i := slices.IndexFunc(claims, func(o claim) bool { return o.owner == c.owner })
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
		if slices.ContainsFunc(claims, func(o claim) bool { return o.owner == c.owner }) {
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

// share is the part of an object that it serves: without the hosts of older ones.
func (h hosts) share(name ir.Owner, whole ir.Route) (share ir.Route, lost []ir.Domain) {
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

// explain says, for the one that did not get them, who serves its hosts.
func (h hosts) explain(lost []ir.Domain) []string {
	texts := make([]string, 0, len(lost))
	for _, d := range lost {
		where := ""
		if d.Audience == ir.Internal {
			where = " inside the cluster"
		}
		texts = append(texts, fmt.Sprintf("host %s%s is served by %s, which is older: rename this one or change its domain", d.Host, where, inWords(h.holder(d))))
	}
	return texts
}

// inWords names an object for a person: route default/hello.
func inWords(owner ir.Owner) string {
	kind, name, _ := strings.Cut(string(owner), "/")
	if kind == translate.RouteKind {
		kind = "route"
	}
	return kind + " " + name
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
