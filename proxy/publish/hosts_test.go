package publish

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"ebb.dev/ebb/proxy/ir"
)

// TestHosts: in whatever order Routes come, change and go, each host is its oldest
// claimant's, and whoever's share changed is told.
func TestHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hosts{}
		wants := map[string][]ir.Domain{}
		shares := map[string]string{}
		claimOf := func(name string) claim {
			// Two of each age: the UID decides between them.
			return claim{owner: ir.Owner(name), created: time.Unix(int64(name[0]-'a')/2, 0), uid: types.UID(name)}
		}
		shareOf := func(name string) string {
			whole := ir.Route{}
			for _, d := range wants[name] {
				whole.Hosts = append(whole.Hosts, ir.VirtualHost{Name: d.Host, Domains: []ir.Domain{d}})
			}
			share, lost := h.share(ir.Owner(name), whole)
			return fmt.Sprint(domains(share), lost)
		}
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			name := string(rune('a' + rapid.IntRange(0, 5).Draw(t, "route")))
			var now []ir.Domain
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 0, 3, rapid.ID).Draw(t, "hosts") {
				now = append(now, ir.Domain{Host: fmt.Sprint(i), Audience: ir.External})
			}
			others := h.change(claimOf(name), wants[name], now)
			wants[name] = now
			for n := range wants {
				told := n == name || slices.Contains(others, ir.Owner(n))
				if s := shareOf(n); s != shares[n] {
					if shares[n] = s; !told {
						t.Fatalf("%s was not told that its share is %s", n, s)
					}
				}
			}
			for i := range 5 {
				d := ir.Domain{Host: fmt.Sprint(i), Audience: ir.External}
				oldest := ""
				for n := range wants {
					if slices.Contains(wants[n], d) && (oldest == "" || n < oldest) {
						oldest = n
					}
				}
				if (oldest == "") != (len(h[d]) == 0) || oldest != "" && string(h.holder(d)) != oldest {
					t.Fatalf("host %d is %q's, and %v", i, oldest, h[d])
				}
			}
		}
	})
}
