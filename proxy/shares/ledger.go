package shares

import (
	"cmp"
	"slices"
	"time"

	"ebb.dev/ebb/proxy/rendezvous"
)

// Quantum is how long an activator keeps a pod, at least, that another one waits for.
const Quantum = 100 * time.Millisecond

// Nobody is the owner of a pod that no activator may send to.
const Nobody = "-"

// Ledger says who has the pods of one Revision. Activators are told apart by an id
// that no two processes share. The zero value is not ready: see [New].
type Ledger struct {
	turn uint64 // of the last pod that changed hands
	pods map[string]*holding
}

// holding is one pod.
type holding struct {
	owner string // "" is nobody
	turn  uint64
	since time.Time             // when it changed hands, or when more of it came free for its owner
	rest  map[string]*remainder // by activator that had it before
}

// remainder is what an activator may still have on a pod that it had.
type remainder struct {
	lost  uint64 // the turn at which it lost the pod
	known bool   // it has said how many
	n     int    // requests, while known
}

// New makes a ledger whose turns are above floor.
func New(floor uint64) *Ledger { return &Ledger{turn: floor, pods: map[string]*holding{}} }

// Raise makes turns that come higher than one that somebody has heard of.
func (l *Ledger) Raise(turn uint64) { l.turn = max(l.turn, turn) }

// Pod is one pod of the Revision.
type Pod struct {
	Name   string
	Active bool // it is to get requests: not draining, not ending
}

// Move tells an activator that had a pod to give it up.
type Move struct {
	From, Pod string
	Turn      uint64
}

// Assign brings the ledger up to date with the pods and with the activators that are to
// have some: each gets an even share, and as few pods as possible change hands.
// waiting are those of the activators that hold requests and cannot pass them on, with the time since when.
// limit is what a pod serves at once. It returns who has to give up what, and, if a pod has to go
// round, after how long Assign is to be called again; 0 is not at all.
func (l *Ledger) Assign(now time.Time, limit int, pods []Pod, activators []string, waiting map[string]time.Time) (moves []Move, again time.Duration) {
	there := make(map[string]bool, len(pods))
	var active []string
	for _, p := range pods {
		there[p.Name] = true
		if p.Active {
			active = append(active, p.Name)
		}
		if l.pods[p.Name] == nil {
			l.pods[p.Name] = &holding{}
		}
	}
	for name := range l.pods {
		if !there[name] {
			delete(l.pods, name)
		}
	}
	if len(activators) == 0 {
		return nil, 0
	}
	slices.Sort(active)

	// Those who have most are the first to keep one more than the others: so nothing moves that need not.
	has := make(map[string][]string, len(activators))
	var free []string
	for _, name := range active {
		if owner := l.pods[name].owner; slices.Contains(activators, owner) {
			has[owner] = append(has[owner], name)
		} else {
			free = append(free, name)
		}
	}
	order := slices.Clone(activators)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(has[b]), len(has[a])), cmp.Compare(a, b))
	})
	fewest, more := len(active)/len(order), len(active)%len(order)
	room := make(map[string]int, len(order))
	for i, a := range order {
		quota := fewest
		if i < more {
			quota++
		}
		mine := has[a]
		slices.SortFunc(mine, func(x, y string) int { return cmp.Compare(rendezvous.Rank(y, a), rendezvous.Rank(x, a)) })
		if len(mine) > quota {
			free = append(free, mine[quota:]...)
			mine = mine[:quota]
		}
		room[a] = quota - len(mine)
	}
	slices.Sort(free)
	for _, name := range free {
		best, bestRank := "", uint64(0)
		for _, a := range order {
			if room[a] == 0 {
				continue
			}
			if r := rendezvous.Rank(name, a); best == "" || r > bestRank {
				best, bestRank = a, r
			}
		}
		room[best]--
		moves = l.give(moves, now, name, best)
	}
	if fewest == 0 {
		moves, again = l.goRound(moves, now, limit, active, order, waiting)
	}
	return moves, again
}

// goRound gives those who wait without a pod one that somebody has had, and could use, long enough.
func (l *Ledger) goRound(moves []Move, now time.Time, limit int, active, activators []string, waiting map[string]time.Time) ([]Move, time.Duration) {
	var without []string
	for _, a := range activators {
		_, waits := waiting[a]
		if waits && !slices.ContainsFunc(active, func(p string) bool { return l.pods[p].owner == a }) {
			without = append(without, a)
		}
	}
	slices.SortFunc(without, func(a, b string) int { return cmp.Or(waiting[a].Compare(waiting[b]), cmp.Compare(a, b)) })
	used := make([]string, 0, len(active))
	for _, p := range active {
		if _, _, elsewhere := l.Of(p, limit); elsewhere < limit {
			used = append(used, p)
		}
	}
	slices.SortFunc(used, func(a, b string) int {
		return cmp.Or(l.pods[a].since.Compare(l.pods[b].since), cmp.Compare(a, b))
	})
	for i, p := range used {
		if i == len(without) {
			return moves, 0
		}
		if wait := l.pods[p].since.Add(Quantum).Sub(now); wait > 0 {
			return moves, wait
		}
		moves = l.give(moves, now, p, without[i])
	}
	return moves, 0
}

func (l *Ledger) give(moves []Move, now time.Time, pod, to string) []Move {
	p := l.pods[pod]
	l.turn++
	if p.owner != "" {
		p.remain(p.owner, &remainder{lost: l.turn})
		moves = append(moves, Move{From: p.owner, Pod: pod, Turn: l.turn})
	}
	delete(p.rest, to) // it counts itself what it has
	p.owner, p.turn, p.since = to, l.turn, now
	return moves
}

func (p *holding) remain(activator string, r *remainder) {
	if p.rest == nil {
		p.rest = map[string]*remainder{}
	}
	p.rest[activator] = r
}

// Of tells who has a pod, since which turn, and how many of the pod's places count as
// taken by those who had it before; limit is all of them.
func (l *Ledger) Of(pod string, limit int) (owner string, turn uint64, elsewhere int) {
	p := l.pods[pod]
	switch {
	case p == nil:
		return Nobody, 0, limit
	case p.owner == "":
		return Nobody, p.turn, limit
	}
	for _, r := range p.rest {
		if !r.known {
			return p.owner, p.turn, limit
		}
		elsewhere += r.n
	}
	return p.owner, p.turn, min(elsewhere, limit)
}

// Said takes in what an activator says that it has on a pod, having heard of the
// turn. It returns whether that changes what [Ledger.Of] says of the pod.
func (l *Ledger) Said(now time.Time, activator, pod string, turn uint64, n int) (changed bool) {
	p := l.pods[pod]
	if p == nil {
		return false
	}
	r := p.rest[activator]
	if r == nil || turn < r.lost || r.known && n >= r.n {
		return false
	}
	r.known, r.n, p.since = true, n, now
	if n <= 0 {
		delete(p.rest, activator)
	}
	return true
}

// Found takes in, of an activator that has just come back, that it has a pod, or some
// requests on one that is not its own any more, having heard of the turn. A ledger that
// knows better stays as it is, and what the activator must give up is to be asked for
// by [Ledger.Owed].
func (l *Ledger) Found(now time.Time, activator, pod string, turn uint64, mine bool, n int) {
	l.turn = max(l.turn, turn)
	p := l.pods[pod]
	if p == nil {
		p = &holding{}
		l.pods[pod] = p
	}
	switch {
	case p.owner == activator && mine && turn >= p.turn:
		return
	case mine && (p.owner == "" || p.owner != activator && turn > p.turn):
		if p.owner != "" {
			p.remain(p.owner, &remainder{lost: turn})
		}
		delete(p.rest, activator)
		p.owner, p.turn, p.since = activator, turn, now
	case p.owner == activator:
		// It has not heard yet that it has it.
	case mine:
		p.remain(activator, &remainder{lost: p.turn})
	case p.rest[activator] == nil:
		if n > 0 {
			p.remain(activator, &remainder{lost: turn, known: true, n: n})
		}
	default:
		l.Said(now, activator, pod, turn, n)
	}
}

// Owed lists what an activator has been told to give up and may not have heard.
func (l *Ledger) Owed(activator string) []Move {
	var moves []Move
	for name, p := range l.pods {
		if r := p.rest[activator]; r != nil {
			moves = append(moves, Move{From: activator, Pod: name, Turn: r.lost})
		}
	}
	slices.SortFunc(moves, func(a, b Move) int { return cmp.Compare(a.Pod, b.Pod) })
	return moves
}

// Gone forgets an activator that has ended: it has nothing anywhere.
func (l *Ledger) Gone(activator string) {
	for _, p := range l.pods {
		if p.owner == activator {
			p.owner = ""
		}
		delete(p.rest, activator)
	}
}

// Mentions lists the activators that have, or had, a pod of the Revision.
func (l *Ledger) Mentions() map[string]struct{} {
	all := map[string]struct{}{}
	for _, p := range l.pods {
		if p.owner != "" {
			all[p.owner] = struct{}{}
		}
		for a := range p.rest {
			all[a] = struct{}{}
		}
	}
	return all
}
