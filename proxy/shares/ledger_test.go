package shares

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world is a ledger with activators that obey it, each by what it has heard so far: descriptions
// and releases arrive late, on ways of their own, and so do the answers.
type world struct {
	limit   int
	ledger  *Ledger
	pods    []Pod
	holders []string
	waiting map[string]time.Time
	now     time.Time
	acts    map[string]*act
}

type act struct {
	id           string
	described    []map[string]word // on their way, oldest first
	releases     []Move
	answers      []answer
	view         map[string]word
	fence        map[string]uint64
	owes         map[string]bool
	inFlight     map[string]int
	disconnected bool
}

type word struct {
	owner     string
	turn      uint64
	elsewhere int
}

type answer struct {
	pod  string
	turn uint64
	n    int
}

func newWorld(limit int) *world {
	return &world{limit: limit, ledger: New(0), waiting: map[string]time.Time{}, now: time.Unix(1000, 0), acts: map[string]*act{}}
}

func (w *world) act(id string) *act {
	a := &act{id: id, view: map[string]word{}, fence: map[string]uint64{}, owes: map[string]bool{}, inFlight: map[string]int{}}
	w.acts[id] = a
	return a
}

func (w *world) assign() time.Duration {
	moves, again := w.ledger.Assign(w.now, w.limit, w.pods, w.holders, w.waiting)
	spec := map[string]word{}
	for _, p := range w.pods {
		owner, turn, elsewhere := w.ledger.Of(p.Name, w.limit)
		spec[p.Name] = word{owner, turn, elsewhere}
	}
	for _, a := range w.acts {
		a.described = append(a.described, spec)
	}
	w.releases(moves)
	return again
}

func (w *world) releases(moves []Move) {
	for _, m := range moves {
		if a := w.acts[m.From]; a != nil && !a.disconnected {
			a.releases = append(a.releases, m)
		}
	}
}

func (a *act) mine(pod string) bool {
	return a.view[pod].owner == a.id && a.view[pod].turn >= a.fence[pod]
}

func (a *act) say(pod string) {
	if !a.disconnected {
		a.answers = append(a.answers, answer{pod, max(a.view[pod].turn, a.fence[pod]), a.inFlight[pod]})
	}
}

func (a *act) hear() bool {
	if len(a.described) == 0 {
		return false
	}
	a.view, a.described = a.described[0], a.described[1:]
	return true
}

func (a *act) obey() bool {
	if len(a.releases) == 0 {
		return false
	}
	m := a.releases[0]
	a.releases = a.releases[1:]
	a.fence[m.Pod] = max(a.fence[m.Pod], m.Turn)
	a.owes[m.Pod] = true
	a.say(m.Pod)
	return true
}

func (w *world) take(a *act) bool {
	if len(a.answers) == 0 {
		return false
	}
	x := a.answers[0]
	a.answers = a.answers[1:]
	w.ledger.Said(w.now, a.id, x.pod, x.turn, x.n)
	return true
}

func (a *act) begin(pod string, limit int) {
	if v := a.view[pod]; a.mine(pod) && a.inFlight[pod]+v.elsewhere < limit {
		a.inFlight[pod]++
	}
}

func (a *act) end(pod string) {
	if a.inFlight[pod] > 0 {
		a.inFlight[pod]--
		if a.owes[pod] && !a.mine(pod) {
			a.say(pod)
		}
	}
}

// rejoin is a new stream of a process that goes on: it lists what it has.
func (w *world) rejoin(a *act) {
	a.disconnected, a.releases, a.answers = false, nil, nil
	for pod, v := range a.view {
		w.ledger.Raise(max(v.turn, a.fence[pod]))
	}
	for _, turn := range a.fence {
		w.ledger.Raise(turn)
	}
	for pod, v := range a.view {
		if a.mine(pod) || a.inFlight[pod] > 0 {
			a.owes[pod] = !a.mine(pod)
			w.ledger.Found(w.now, a.id, pod, max(v.turn, a.fence[pod]), a.mine(pod), a.inFlight[pod])
		}
	}
	w.releases(w.ledger.Owed(a.id))
}

// TestLimitHolds: whatever changes hands, however late anybody hears of it, and whoever dies or starts
// again: a pod never has more than its limit. When all have heard of everything, the pods are shared evenly.
func TestLimitHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.SampledFrom([]int{1, 2, 10}).Draw(t, "limit"))
		names := []string{"a@1", "b@1", "c@1"}
		for _, n := range names {
			w.act(n)
		}
		all := []string{"p1", "p2", "p3", "p4"}
		born := 4
		someAct := func(t *rapid.T) *act { return w.acts[rapid.SampledFrom(sorted(w.acts)).Draw(t, "activator")] }
		somePod := func(t *rapid.T) string { return rapid.SampledFrom(all).Draw(t, "pod") }
		t.Repeat(map[string]func(*rapid.T){
			"pods": func(t *rapid.T) {
				for i := range all { // one that is gone does not come back
					if rapid.IntRange(0, 7).Draw(t, "gone") == 0 {
						born++
						all[i] = fmt.Sprint("p", born)
					}
				}
				w.pods = nil
				for _, p := range all[:rapid.IntRange(1, len(all)).Draw(t, "pods")] {
					w.pods = append(w.pods, Pod{p, rapid.IntRange(0, 5).Draw(t, "active") > 0})
				}
				for _, p := range all[len(w.pods):] {
					w.pods = append(w.pods, Pod{p, false})
				}
				w.assign()
			},
			"holders": func(t *rapid.T) {
				w.holders = rapid.SliceOfNDistinct(rapid.SampledFrom(sorted(w.acts)), 1, len(w.acts), rapid.ID[string]).Draw(t, "holders")
				slices.Sort(w.holders)
				w.assign()
			},
			"waits": func(t *rapid.T) {
				a := someAct(t).id
				if _, waits := w.waiting[a]; waits {
					delete(w.waiting, a)
				} else {
					w.waiting[a] = w.now
				}
				w.assign()
			},
			"later": func(t *rapid.T) { w.now = w.now.Add(Quantum / 2); w.assign() },
			"hear": func(t *rapid.T) {
				a := someAct(t)
				for range rapid.IntRange(1, 5).Draw(t, "descriptions") {
					a.hear()
				}
			},
			"obey": func(t *rapid.T) { someAct(t).obey() },
			"take": func(t *rapid.T) { w.take(someAct(t)); w.assign() },
			"begin": func(t *rapid.T) {
				a := someAct(t)
				for _, p := range all {
					for range w.limit {
						a.begin(p, w.limit)
					}
				}
			},
			"all hear and begin": func(*rapid.T) {
				for _, id := range sorted(w.acts) {
					for w.acts[id].hear() {
					}
					for _, p := range all {
						for range w.limit {
							w.acts[id].begin(p, w.limit)
						}
					}
				}
			},
			"end": func(t *rapid.T) { someAct(t).end(somePod(t)) },
			"dies": func(t *rapid.T) {
				a := someAct(t)
				delete(w.acts, a.id)
				w.holders = slices.DeleteFunc(w.holders, func(h string) bool { return h == a.id })
				delete(w.waiting, a.id)
				if rapid.Bool().Draw(t, "assigned before it is certain") {
					w.assign()
				}
				w.ledger.Gone(a.id)
				born++
				w.act(fmt.Sprintf("%c@%d", 'a'+rune(born%3), born))
				w.assign()
			},
			"disconnects": func(t *rapid.T) {
				a := someAct(t)
				a.disconnected, a.releases, a.answers = true, nil, nil
			},
			"rejoins": func(t *rapid.T) { w.rejoin(someAct(t)); w.assign() },
			"the control plane starts again": func(t *rapid.T) {
				w.ledger = New(0) // by a clock that went wrong
				for _, id := range sorted(w.acts) {
					w.acts[id].described = nil // the stream broke
					w.rejoin(w.acts[id])
				}
				w.assign()
			},
			"": func(t *rapid.T) {
				for _, p := range all {
					sum := 0
					for _, a := range w.acts {
						sum += a.inFlight[p]
					}
					if sum > w.limit {
						t.Fatalf("pod %s has %d requests, its limit is %d", p, sum, w.limit)
					}
				}
			},
		})
		// Everything arrives, and everything that runs ends.
		for _, id := range sorted(w.acts) {
			w.rejoin(w.acts[id])
		}
		clear(w.waiting)
		w.assign()
		for _, a := range w.acts {
			for p, n := range a.inFlight {
				for range n {
					a.end(p)
				}
			}
		}
		for more := true; more; {
			more = false
			for _, a := range w.acts {
				for a.obey() || w.take(a) {
					more = true
				}
			}
			w.assign()
			for _, a := range w.acts {
				for a.hear() {
				}
			}
		}
		if len(w.holders) == 0 {
			return
		}
		has, active := map[string]int{}, 0
		for _, p := range w.pods {
			owner, _, elsewhere := w.ledger.Of(p.Name, w.limit)
			if !p.Active {
				continue
			}
			active++
			has[owner]++
			if elsewhere != 0 || !slices.Contains(w.holders, owner) || !w.acts[owner].mine(p.Name) {
				t.Fatalf("pod %s: %s has it, of %v, %d places elsewhere, and it knows: %v", p.Name, owner, w.holders, elsewhere, w.acts[owner])
			}
		}
		for _, h := range w.holders {
			if n := has[h]; n < active/len(w.holders) || n > (active+len(w.holders)-1)/len(w.holders) {
				t.Fatalf("%d pods of %v: %s has %d", active, w.holders, h, n)
			}
		}
	})
}

func sorted(m map[string]*act) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// TestOnePodGoesRound: three activators that all hold requests share one pod in turns.
func TestOnePodGoesRound(t *testing.T) {
	l, now := New(0), time.Unix(1000, 0)
	all := []string{"a@1", "b@1", "c@1"}
	waiting := map[string]time.Time{"a@1": now, "b@1": now.Add(1), "c@1": now.Add(2)}
	had := map[string]int{}
	for range 9 {
		_, again := l.Assign(now, 1, []Pod{{"p", true}}, all, waiting)
		owner, turn, _ := l.Of("p", 1)
		had[owner]++
		delete(waiting, owner)
		for _, a := range all { // who lost it answers, and waits from now on
			l.Said(now, a, "p", turn, 0)
			if _, waits := waiting[a]; !waits && a != owner {
				waiting[a] = now
			}
		}
		if again < 0 || again > Quantum {
			t.Fatalf("to be called again after %v", again)
		}
		now = now.Add(Quantum)
	}
	for _, a := range all {
		if had[a] != 3 {
			t.Errorf("%v: each should have had it three times of nine", had)
		}
	}
}

// TestNothingMovesInVain: the same pods and activators again change nothing, and one activator
// less moves only what it had.
func TestNothingMovesInVain(t *testing.T) {
	l, now := New(0), time.Unix(1000, 0)
	var pods []Pod
	for i := range 100 {
		pods = append(pods, Pod{fmt.Sprintf("p%02d", i), true})
	}
	all := []string{"a@1", "b@1", "c@1", "d@1"}
	l.Assign(now, 1, pods, all, nil)
	if moves, _ := l.Assign(now, 1, pods, all, nil); len(moves) > 0 {
		t.Errorf("moved again: %v", moves)
	}
	moves, _ := l.Assign(now, 1, pods, all[:3], nil)
	for _, m := range moves {
		if m.From != "d@1" {
			t.Errorf("%s moved from %s, which is still there", m.Pod, m.From)
		}
	}
	if len(moves) != 25 {
		t.Errorf("%d pods moved, want the 25 of the one that is gone", len(moves))
	}
	if moves, _ = l.Assign(now, 1, pods, all, nil); len(moves) != 25 {
		t.Errorf("%d pods moved to one that came, want its share of 25", len(moves))
	}
}

func BenchmarkAssign(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint("pods=", n), func(b *testing.B) {
			l, now := New(0), time.Unix(1000, 0)
			var pods []Pod
			for i := range n {
				pods = append(pods, Pod{fmt.Sprintf("p%02d", i), true})
			}
			all := []string{"a@1", "b@1", "c@1"}
			b.ReportAllocs()
			for b.Loop() {
				l.Assign(now, 10, pods, all, nil)
			}
		})
	}
}

// TestLateAnswer: what an activator said before it had the pod again does not count for what it
// has when it loses it once more.
func TestLateAnswer(t *testing.T) {
	l, now, pods := New(0), time.Unix(1000, 0), []Pod{{"p", true}}
	l.Assign(now, 10, pods, []string{"a@1"}, nil)
	first, _ := l.Assign(now, 10, pods, []string{"b@1"}, nil)
	l.Assign(now, 10, pods, []string{"a@1"}, nil)
	second, _ := l.Assign(now, 10, pods, []string{"b@1"}, nil)
	if _, _, elsewhere := l.Of("p", 10); elsewhere != 10 {
		t.Fatalf("%d of 10 places are taken before anybody answered, want all", elsewhere)
	}
	l.Said(now, "a@1", "p", first[0].Turn, 0)
	if _, _, elsewhere := l.Of("p", 10); elsewhere != 10 {
		t.Errorf("%d of 10 places are taken after an answer to an earlier word, want all", elsewhere)
	}
	l.Said(now, "a@1", "p", second[0].Turn, 3)
	l.Said(now, "a@1", "p", second[0].Turn, 4) // overtaken by the one before
	if _, _, elsewhere := l.Of("p", 10); elsewhere != 3 {
		t.Errorf("%d of 10 places are taken, want 3", elsewhere)
	}
}
