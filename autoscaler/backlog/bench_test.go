package backlog

import (
	"fmt"
	"testing"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

type deaf struct{}

func (deaf) Backlog(string, Backlog) {}

// BenchmarkChange is one subscription's news while others have a backlog too: it costs the same whether these are few or many.
func BenchmarkChange(b *testing.B) {
	for _, others := range []int{10, 10_000} {
		b.Run(fmt.Sprint(others, " others"), func(b *testing.B) {
			s := New(Options{Sink: deaf{}, Backends: func(host string) []ir.Backend { return []ir.Backend{{Cluster: host, Weight: 100}} }})
			sess := &session{process: "p"}
			s.sessions[sess] = struct{}{}
			of := func(i, n int) *link.SubscriptionBacklog {
				return &link.SubscriptionBacklog{Subscription: fmt.Sprint(i), Url: fmt.Sprintf("http://s%d.default.svc.cluster.local/", i), Waiting: uint64(n), Parallelism: 100} //nolint:gosec // small
			}
			for i := range others {
				s.take(sess, []*link.SubscriptionBacklog{of(i, 1)})
			}
			one := []*link.SubscriptionBacklog{of(0, 1)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				one[0].Waiting = uint64(1 + i%100) //nolint:gosec // small
				s.take(sess, one)
			}
		})
	}
}
