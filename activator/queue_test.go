package activator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestQueue runs the transcripts in testdata/queue. A command a line:
//
//	new limit=2 bound=3 total=100
//	use a b | unuse a           pods become usable, or not
//	enter r1 r2 [at=5]          requests arrive (at milliseconds)
//	finish r1 | leave r2        a request ends, a waiting client goes away
//	lost r1                     r1's pod could not be reached; it is not used any more
//	limit 3 | fail | expire 10  refuse all, refuse who arrived until then
//
// The output is what became of whom, and the state afterwards.
func TestQueue(t *testing.T) {
	datadriven.Walk(t, "testdata/queue", func(t *testing.T, path string) {
		s := newQueueScript()
		datadriven.RunTest(t, path, s.run)
	})
}

type queueScript struct {
	queue   *queue
	pods    map[string]*pod
	tickets map[string]*ticket
	order   []string
}

func newQueueScript() *queueScript {
	return &queueScript{pods: map[string]*pod{}, tickets: map[string]*ticket{}}
}

func (s *queueScript) run(t *testing.T, d *datadriven.TestData) string {
	var out strings.Builder
	names := make([]string, 0, len(d.CmdArgs))
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			names = append(names, a.Key)
		}
	}
	switch d.Cmd {
	case "new":
		s.queue = &queue{bound: 100}
		total := 100
		argument(t, d, "limit", &s.queue.limit)
		argument(t, d, "bound", &s.queue.bound)
		argument(t, d, "total", &total)
		s.queue.total = &bound{max: int64(total)}
	case "use", "unuse":
		for _, n := range names {
			if s.pods[n] == nil {
				s.pods[n] = &pod{name: n, index: -1}
			}
			if d.Cmd == "use" {
				s.queue.use(s.pods[n])
			} else {
				s.queue.unuse(s.pods[n])
			}
		}
	case "enter":
		var at int
		argument(t, d, "at", &at)
		for _, n := range names {
			s.tickets[n] = &ticket{}
			s.order = append(s.order, n)
			s.show(&out, n, s.queue.enter(s.tickets[n], time.Duration(at)*time.Millisecond))
		}
	case "finish":
		for _, n := range names {
			p := s.tickets[n].pod
			s.tickets[n].pod = nil
			s.queue.finish(p)
		}
	case "lost":
		x := s.tickets[names[0]]
		p := x.pod
		s.queue.unuse(p)
		s.queue.finish(p)
		s.show(&out, names[0], s.queue.reenter(x))
	case "leave":
		for _, n := range names {
			fmt.Fprintf(&out, "%s waited: %v\n", n, s.queue.leave(s.tickets[n]))
		}
	case "limit":
		var n int
		_, _ = fmt.Sscan(names[0], &n)
		s.queue.setLimit(n)
	case "fail":
		fmt.Fprintf(&out, "refused: %d\n", s.queue.fail(errors.New("cannot start")))
	case "expire":
		var ms int
		_, _ = fmt.Sscan(names[0], &ms)
		if next, ok := s.queue.expire(time.Duration(ms)*time.Millisecond, errors.New("too late")); ok {
			fmt.Fprintf(&out, "next arrived at %v\n", next)
		}
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	for _, n := range s.order {
		x := s.tickets[n]
		select {
		case <-x.ready:
			if x.err != nil {
				fmt.Fprintf(&out, "%s: %v\n", n, x.err)
			} else {
				fmt.Fprintf(&out, "%s -> %s\n", n, x.pod.name)
			}
		default:
		}
	}
	s.state(&out)
	return out.String()
}

func argument(t *testing.T, d *datadriven.TestData, key string, to *int) {
	if d.HasArg(key) {
		d.ScanArgs(t, key, to)
	}
}

func (s *queueScript) show(out *strings.Builder, name string, o outcome) {
	switch o {
	case granted:
		fmt.Fprintf(out, "%s -> %s\n", name, s.tickets[name].pod.name)
	case held:
		fmt.Fprintf(out, "%s waits\n", name)
	case full:
		fmt.Fprintf(out, "%s: full\n", name)
	}
}

func (s *queueScript) state(out *strings.Builder) {
	var pods, waiting []string
	for n, p := range s.pods {
		mark := ""
		if p.index < 0 {
			mark = " unused"
		}
		pods = append(pods, fmt.Sprintf("%s=%d%s", n, p.inFlight, mark))
	}
	slices.Sort(pods)
	for x := s.queue.head; x != nil; x = x.next {
		for n, y := range s.tickets {
			if x == y {
				waiting = append(waiting, n)
			}
		}
	}
	fmt.Fprintf(out, "pods %v waiting %v\n", pods, waiting)
}

// TestQueueProperties does what requests, pods and clients can do in any order.
func TestQueueProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &queue{
			limit: rapid.IntRange(0, 4).Draw(t, "limit"),
			bound: rapid.IntRange(1, 12).Draw(t, "bound"),
			total: &bound{max: 10},
		}
		raised := q.limit // pods may keep what they had under a higher limit
		pods := []*pod{{index: -1}, {index: -1}, {index: -1}}
		var waiting, running []*ticket // waiting in order of arrival
		collect := func() {
			for len(waiting) > 0 {
				x := waiting[0]
				select {
				case <-x.ready:
				default:
					return
				}
				waiting = waiting[1:]
				if x.err == nil {
					running = append(running, x)
				}
			}
		}
		pick := func(from *[]*ticket) *ticket {
			i := rapid.IntRange(0, len(*from)-1).Draw(t, "which")
			x := (*from)[i]
			*from = slices.Delete(*from, i, i+1)
			return x
		}
		now := time.Duration(0)
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				now++
				x := &ticket{}
				switch q.enter(x, now) {
				case granted:
					if len(waiting) > 0 {
						t.Fatal("a newcomer was served before those who wait")
					}
					running = append(running, x)
				case held:
					waiting = append(waiting, x)
				case full:
					if len(waiting) < q.bound && len(waiting) < int(q.total.max) {
						t.Fatal("refused with room left")
					}
				}
			},
			"finish": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip()
				}
				q.finish(pick(&running).pod)
			},
			"leave": func(t *rapid.T) {
				if len(waiting) == 0 {
					t.Skip()
				}
				if !q.leave(pick(&waiting)) {
					t.Fatal("was not waiting")
				}
			},
			"lost": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip()
				}
				x := pick(&running)
				q.unuse(x.pod)
				q.finish(x.pod)
				collect()
				if q.reenter(x) == granted {
					running = append(running, x)
					return
				}
				i, _ := slices.BinarySearchFunc(waiting, x, func(a, b *ticket) int { return int(a.seq) - int(b.seq) })
				waiting = slices.Insert(waiting, i, x)
			},
			"use":   func(t *rapid.T) { q.use(rapid.SampledFrom(pods).Draw(t, "pod")) },
			"unuse": func(t *rapid.T) { q.unuse(rapid.SampledFrom(pods).Draw(t, "pod")) },
			"limit": func(t *rapid.T) {
				q.setLimit(rapid.IntRange(0, 4).Draw(t, "limit"))
				if q.limit == 0 {
					raised = 0
				} else if raised != 0 {
					raised = max(raised, q.limit)
				}
			},
			"fail": func(*rapid.T) { q.fail(errors.New("no")) },
			"": func(t *rapid.T) {
				collect()
				if q.waiting != len(waiting) || int(q.total.n.Load()) != len(waiting) {
					t.Fatalf("%d wait, counted %d and %d", len(waiting), q.waiting, q.total.n.Load())
				}
				if len(waiting) > 0 && q.head != waiting[0] {
					t.Fatal("not in order of arrival")
				}
				load := map[*pod]int{}
				for _, x := range running {
					load[x.pod]++
				}
				for i, p := range pods {
					if p.inFlight != load[p] {
						t.Fatalf("pod %d has %d, counted %d", i, load[p], p.inFlight)
					}
					if raised > 0 && p.inFlight > raised {
						t.Fatalf("pod %d has %d, the limit is %d", i, p.inFlight, raised)
					}
					if p.index >= 0 && len(waiting) > 0 && (q.limit == 0 || p.inFlight < q.limit) {
						t.Fatalf("pod %d has room and somebody waits", i)
					}
				}
				for i, p := range q.usable {
					if p.index != i || i > 0 && q.usable.less(i, (i-1)/2) {
						t.Fatal("the heap is out of order")
					}
				}
			},
		})
	})
}
