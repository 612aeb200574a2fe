package filter

import (
	"fmt"
	"testing"

	"ebb.dev/ebb/eventing/plan"
)

// BenchmarkTriggers is one event against the filters of so many Triggers of a Broker, one of which matches.
func BenchmarkTriggers(b *testing.B) {
	for _, dialect := range []struct {
		name string
		make func(i int) plan.Filter
	}{
		{"exact", func(i int) plan.Filter { return plan.Filter{Exact: one("type", fmt.Sprintf("order.created.%d", i))} }},
		{"nested", func(i int) plan.Filter {
			return plan.Filter{All: []plan.Filter{
				{Prefix: one("source", "/shop/")}, {Not: &plan.Filter{Exact: one("tenant", "other")}},
				{Any: []plan.Filter{{Suffix: one("type", fmt.Sprintf(".%d", i))}, {Exact: one("amount", "0")}}}}}
		}},
		{"cesql", func(i int) plan.Filter {
			return plan.Filter{CESQL: fmt.Sprintf("source LIKE '/shop/%%' AND tenant <> 'other' AND type = 'order.created.%d'", i)}
		}},
	} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", dialect.name, n), func(b *testing.B) {
				matchers := make([]*Matcher, n)
				for i := range matchers {
					matchers[i] = compiled(b, dialect.make(i))
				}
				e := order()
				e.Type = fmt.Sprintf("order.created.%d", n-1)
				b.ReportAllocs()
				for b.Loop() {
					s := Subject{event: e}
					matched := 0
					for _, m := range matchers {
						if m.MatchSubject(&s) {
							matched++
						}
					}
					if matched != 1 {
						b.Fatalf("%d match", matched)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/filter")
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		compiled(b, plan.Filter{CESQL: "source LIKE '/shop/%' AND tenant <> 'other' AND type = 'order.created'"})
	}
}
